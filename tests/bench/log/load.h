/* SPDX-License-Identifier: Apache-2.0 */
/* load: the events that the benches of the log apply, made from their number alone.
 *
 * Sixteen workers, message i belongs to worker i % 16. A worker stores some prompts that every worker
 * sees, once each, then chains that go on from one of them: an engine names a block by its content
 * and says nothing of a prompt that it holds. (A load that stores the same prompt again under other
 * block hashes measures the index's table of duplicates, which no engine fills.) */
#ifndef JR_BENCH_LOG_LOAD_H
#define JR_BENCH_LOG_LOAD_H

#include "base/buf.h"
#include "base/kv.h"

#define LOAD_WORKERS       16
#define LOAD_RUN_MAX       64
#define LOAD_CHAIN_BLOCKS  512 /* blocks from the root to the end of a chain */
#define LOAD_SHARED_BLOCKS 64  /* of them, of the prompt */
#define LOAD_PROMPTS       32

struct load_message {
    struct jr_kv_batch batch;
    struct jr_kv_event event;
    struct jr_kv_block blocks[LOAD_RUN_MAX];
};

/* Message i of a load whose messages store `run` blocks each (1 <= run <= LOAD_RUN_MAX). */
void load_message(struct load_message *m, uint64_t i, uint32_t run, bool dynamo);
/* Its payload, appended to b: RouterEvent JSON or a protobuf batch. */
void load_payload(uint64_t i, uint32_t run, bool dynamo, struct jr_buf *b);

#endif
