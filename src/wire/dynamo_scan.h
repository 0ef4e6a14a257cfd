/* SPDX-License-Identifier: Apache-2.0 */
/* dynamo_scan: the one shape in which Dynamo's own publishers (and ours) write a RouterEvent, read
 * in a single pass:
 *
 *   {"worker_id":N,"event":{"event_id":N,"data":DATA,"dp_rank":N}}        perhaps ,"storage_tier":"device"
 *   DATA = "cleared" | {"removed":{"block_hashes":[N,…]}}
 *        | {"stored":{"parent_hash":N|null,"blocks":[{"block_hash":N,"tokens_hash":N,"mm_extra_info":null},…]}}
 *
 * fields in this order, no white space, N a u64 in JSON's decimal. Anything else is not refused but
 * left to dynamo_json's parser: both give the same batch for what both read. Pure. */
#ifndef JR_WIRE_DYNAMO_SCAN_H
#define JR_WIRE_DYNAMO_SCAN_H

#include "base/kv.h"
#include "wire/arena.h"

#ifdef __cplusplus
extern "C" {
#endif

/* 0 with *ret as jr_dynamo_json_decode fills it; JR_EAGAIN: not of that shape, or over a limit:
 * ask the parser, nothing was judged; JR_ENOMEM: arena full. */
JR_MUST_CHECK int jr_dynamo_scan(const void *text, size_t n, struct jr_arena *arena,
                                 struct jr_kv_batch *ret);

#ifdef __cplusplus
}
#endif

#endif
