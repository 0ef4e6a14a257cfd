# SPDX-License-Identifier: Apache-2.0
"""The other side of test_io_object_store: an independent client (nats-py) on the same bucket.

object_store_interop.py URL BUCKET get NAME     prints the SHA-256 of the object
object_store_interop.py URL BUCKET put NAME N   writes N bytes and prints their SHA-256
"""

import asyncio
import hashlib
import sys

import nats


async def main(url, bucket, command, name, size="0"):
    client = await nats.connect(url)
    store = await client.jetstream().object_store(bucket)
    if command == "get":
        data = (await store.get(name)).data
    else:
        data = bytes(i * 7 % 251 for i in range(int(size)))
        await store.put(name, data)
    print(hashlib.sha256(data).hexdigest())
    await client.close()


asyncio.run(main(*sys.argv[1:]))
