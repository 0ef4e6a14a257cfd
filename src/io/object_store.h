/* SPDX-License-Identifier: Apache-2.0 */
/* object_store: a bucket of objects on plain JetStream (ADR-20), written with compare-and-set.
 *
 *   stream OBJ_B      $O.B.C.{nuid}        chunks of 128 KiB
 *                     $O.B.M.{base64 name} meta JSON, one per object (Nats-Rollup: sub)
 *
 * An object is written in two phases: the chunks under a new nuid, then the meta, which names the
 * nuid, only if the meta is still the one that was read before. So a paused writer cannot replace a
 * newer object, and a reader sees the old or the new one, never a mixture. The chunks of the old
 * nuid are left to the caller, to be purged once nothing names them.
 *
 * All functions block and are called from lanes. */
#ifndef JR_IO_OBJECT_STORE_H
#define JR_IO_OBJECT_STORE_H

#include "io/js_stream.h"

struct jr_object_store;

struct jr_object_store_config {
    const char *bucket; /* copied; [A-Za-z0-9_-] */
    uint32_t replicas;
    int64_t max_bytes;    /* 0: none; else it must hold three copies: two objects and one upload */
    uint32_t chunk_bytes; /* default JR_SNAPSHOT_CHUNK */
    bool memory;
};
JR_MUST_CHECK int jr_object_store_open(struct jr_nats *nats,
                                       const struct jr_object_store_config *config,
                                       struct jr_object_store **ret, struct jr_errmsg *e);
/* Opens only if it exists (Dynamo's bucket): else JR_ENOTFOUND. */
JR_MUST_CHECK int jr_object_store_open_existing(struct jr_nats *nats, const char *bucket,
                                                struct jr_object_store **ret, struct jr_errmsg *e);
void jr_object_store_destroy(struct jr_object_store *store);

#define JR_NUID_MAX 64
struct jr_object_info {
    uint64_t revision; /* stream sequence of the meta message */
    int64_t time_ns;   /* of the meta message */
    char nuid[JR_NUID_MAX];
    uint64_t size;
    uint32_t chunks;
    uint8_t sha256[32];
    bool has_digest;
    bool deleted;
};
/* From the stream leader. JR_ENOTFOUND: never written (a deleted one is returned with `deleted`).
 */
JR_MUST_CHECK int jr_object_info(struct jr_object_store *store, const char *name,
                                 struct jr_object_info *ret, struct jr_errmsg *e);

/* Phase one. upload: begin → write … → finish; abort (or any failure) purges its chunks. */
struct jr_upload;
JR_MUST_CHECK int jr_upload_begin(struct jr_object_store *store, struct jr_upload **ret,
                                  struct jr_errmsg *e);
/* Borrows p for the call. Waits when too many chunks are unacknowledged. */
JR_MUST_CHECK int jr_upload_write(struct jr_upload *upload, const void *p, size_t n,
                                  struct jr_errmsg *e);
/* All chunks acknowledged; nuid, size, chunks and digest in ret. */
JR_MUST_CHECK int jr_upload_finish(struct jr_upload *upload, struct jr_object_info *ret,
                                   struct jr_errmsg *e);
void jr_upload_abort(struct jr_upload *upload);   /* takes; blocks */
void jr_upload_destroy(struct jr_upload *upload); /* takes; leaves the chunks: after finish */

/* Phase two: make `name` point to the uploaded chunks if its meta is at expected_revision (0: there
 * is none). JR_ECONFLICT: somebody else wrote. JR_ETIMEOUT: unknown: read the info, compare nuids.
 */
JR_MUST_CHECK int jr_object_commit(struct jr_object_store *store, const char *name,
                                   const struct jr_object_info *object, uint64_t expected_revision,
                                   uint64_t *ret_revision, struct jr_errmsg *e);
/* Publishes the meta again, unchanged, by CAS: a new leader's fence. ret_revision may be NULL. */
JR_MUST_CHECK int jr_object_refresh(struct jr_object_store *store, const char *name,
                                    uint64_t expected_revision, uint64_t *ret_revision,
                                    struct jr_errmsg *e);
/* Both phases and the purge of the chunks replaced. For small things and tests. */
JR_MUST_CHECK int jr_object_put(struct jr_object_store *store, const char *name, const void *p,
                                size_t n, uint64_t expected_revision, struct jr_object_info *ret,
                                struct jr_errmsg *e);

/* Chunks in order, while they arrive; returning non-zero ends the get with that error. A reader
 * that meets a replaced object or a lagging replica starts over, at offset 0 again, at most twice. */
typedef int jr_object_chunk_fn(void *ctx, uint64_t offset, const void *p, size_t n);
/* 0 only when size and SHA-256 are right. JR_ENOTFOUND; JR_ECORRUPT: a chunk is missing or wrong
 * and the meta still names them; JR_EINVAL: larger than max_bytes; JR_ELIMIT: the
 * server has no room for the consumer. ret_info may be NULL. */
JR_MUST_CHECK int jr_object_get(struct jr_object_store *store, const char *name, uint64_t max_bytes,
                                jr_object_chunk_fn *fn, void *ctx, struct jr_object_info *ret_info,
                                struct jr_errmsg *e);
/* The same into one piece of memory (jr_x, returns owned). */
JR_MUST_CHECK int jr_object_read(struct jr_object_store *store, const char *name,
                                 uint64_t max_bytes, uint8_t **ret, size_t *ret_n,
                                 struct jr_object_info *ret_info, struct jr_errmsg *e);

/* Writes a meta with deleted set, by CAS, then purges the chunks. */
JR_MUST_CHECK int jr_object_delete(struct jr_object_store *store, const char *name,
                                   uint64_t expected_revision, struct jr_errmsg *e);
/* Purges the chunks of one nuid, after reading that no meta names it (JR_ECONFLICT when one does).
 */
JR_MUST_CHECK int jr_object_purge_chunks(struct jr_object_store *store, const char *nuid,
                                         struct jr_errmsg *e);

/* Nuids with chunks that no meta names. A running upload is among them: the caller's grace. */
struct jr_nuid_list {
    char (*nuids)[JR_NUID_MAX];
    uint32_t n;
};
JR_MUST_CHECK int jr_object_orphans(struct jr_object_store *store, struct jr_nuid_list *ret,
                                    struct jr_errmsg *e);
void jr_nuid_list_deinit(struct jr_nuid_list *list);
/* Purges the orphans whose last chunk was stored more than grace_ms ago, by the server's time of that
 * chunk and our clock. *ret_n (may be NULL): how many; those before an error count. */
JR_MUST_CHECK int jr_object_collect(struct jr_object_store *store, uint64_t grace_ms,
                                    uint32_t *ret_n, struct jr_errmsg *e);

#endif
