/* SPDX-License-Identifier: Apache-2.0 */
/* lease_json: the JSON values of the lease and state buckets. docs/protocol.md §5.
 *
 * Numbers that may pass 2^63 - 1 (ids, incarnations, digests, revisions) are written as decimal
 * strings and read as strings or numbers. Unknown fields are ignored, missing ones are 0 or "";
 * those a record cannot do without are named at each function. Text that does not fit its field,
 * numbers out of range and wrong types are refused. Decoders: JR_EPROTO with words in e (may be
 * NULL), *ret untouched; JR_ELIMIT when n is over JR_LEASE_BYTES_MAX. Encoders append to b:
 * JR_EINVAL (a required field is missing, too many ranks), JR_ELIMIT, JR_ENOMEM. Pure, any thread.
 */
#ifndef JR_WIRE_LEASE_JSON_H
#define JR_WIRE_LEASE_JSON_H

#include "base/buf.h"
#include "base/image.h"
#include "base/member.h"

#define JR_LEASE_BYTES_MAX (64 << 10)

/* worker.{id}. Required: worker_id, url, model, block_size; ranks are at most JR_RANKS_INLINE. */
JR_MUST_CHECK int jr_lease_encode_worker(const struct jr_worker_lease *l, struct jr_buf *b);
JR_MUST_CHECK int jr_lease_decode_worker(const void *p, size_t n, struct jr_worker_lease *ret,
                                         struct jr_errmsg *e);

/* replica.{id}. Required: id, incarnation. */
JR_MUST_CHECK int jr_lease_encode_replica(const struct jr_replica_lease *l, struct jr_buf *b);
JR_MUST_CHECK int jr_lease_decode_replica(const void *p, size_t n, struct jr_replica_lease *ret,
                                          struct jr_errmsg *e);

/* leader: who holds it. Required: id, incarnation. */
struct jr_leader_record {
    char id[JR_NAME_MAX];
    uint64_t incarnation;
};
JR_MUST_CHECK int jr_lease_encode_leader(const struct jr_leader_record *l, struct jr_buf *b);
JR_MUST_CHECK int jr_lease_decode_leader(const void *p, size_t n, struct jr_leader_record *ret,
                                         struct jr_errmsg *e);

/* snapshots, in the state bucket: the two newest verified snapshots (base/image.h). */
/* {"newest":{…}|null,"previous":{…}|null}. Required in each: object, seq. */
JR_MUST_CHECK int jr_lease_encode_snapshots(const struct jr_snapshots_record *r, struct jr_buf *b);
JR_MUST_CHECK int jr_lease_decode_snapshots(const void *p, size_t n,
                                            struct jr_snapshots_record *ret, struct jr_errmsg *e);

/* epoch, in the state bucket: a hint for bridges. {"random":"…","n":…}, both required. */
JR_MUST_CHECK int jr_lease_encode_epoch(const struct jr_epoch *epoch, struct jr_buf *b);
JR_MUST_CHECK int jr_lease_decode_epoch(const void *p, size_t n, struct jr_epoch *ret,
                                        struct jr_errmsg *e);

#endif
