# SPDX-License-Identifier: Apache-2.0
"""The other side of test_io_object_store: an independent client (nats-py) on the same bucket.

object_store_interop.py URL BUCKET get NAME        prints SHA-256 and size of the bytes, then the size and the
                                                   SHA-256 that the meta states
object_store_interop.py URL BUCKET put NAME N      writes N bytes and prints their SHA-256
object_store_interop.py URL BUCKET copy NAME NEW   reads an object, writes it under another name, the same
"""

import asyncio
import base64
import hashlib
import sys

import nats


async def main(url, bucket, command, name, more="0"):
    client = await nats.connect(url)
    store = await client.jetstream().object_store(bucket)
    stated = ""
    if command == "put":
        data = bytes(i * 7 % 251 for i in range(int(more)))
        await store.put(name, data)
    else:
        got = await store.get(name)
        data = got.data
        digest = base64.urlsafe_b64decode(got.info.digest.removeprefix("SHA-256="))
        stated = " %d %d %s" % (len(data), got.info.size, digest.hex())
    if command == "copy":
        await store.put(more, data)
        stated = ""
    print(hashlib.sha256(data).hexdigest() + stated)
    await client.close()


asyncio.run(main(*sys.argv[1:]))
