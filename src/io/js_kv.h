/* SPDX-License-Identifier: Apache-2.0 */
/* js_kv: a key-value bucket (ADR-8) on plain JetStream: leases and pool state.
 *
 * Bucket B is the stream KV_B with subjects $KV.B.>; a revision is a stream sequence. History is 1.
 * All functions but the watch block and are called from lanes. A bucket's max age is the life of
 * each value since its last write; expiry sends no mark on old servers: list again. */
#ifndef JR_IO_JS_KV_H
#define JR_IO_JS_KV_H

#include "io/js_reader.h"

struct jr_js_kv;

struct jr_js_kv_config {
    const char *bucket; /* copied; [A-Za-z0-9_-] */
    int64_t ttl_ms;     /* 0: none; else at least 100 */
    uint32_t replicas;
    int64_t max_bytes; /* 0: none */
    bool memory;
};

/* Opens or creates. An existing bucket is taken as it is; *ret_ttl_ms (may be NULL) is its real
 * TTL. */
JR_MUST_CHECK int jr_js_kv_open(struct jr_nats *nats, const struct jr_js_kv_config *config,
                                struct jr_js_kv **ret, int64_t *ret_ttl_ms, struct jr_errmsg *e);
void jr_js_kv_destroy(struct jr_js_kv *kv);

/* Keys: [A-Za-z0-9_=/.-]+, no dot at the ends; else JR_EINVAL. ret_revision may be NULL. */
JR_MUST_CHECK int jr_js_kv_put(struct jr_js_kv *kv, const char *key, const void *value, size_t n,
                               uint64_t *ret_revision, struct jr_errmsg *e);
/* JR_ECONFLICT: the key exists. A deleted or expired key can be created. */
JR_MUST_CHECK int jr_js_kv_create(struct jr_js_kv *kv, const char *key, const void *value, size_t n,
                                  uint64_t *ret_revision, struct jr_errmsg *e);
/* JR_ECONFLICT: the key's revision is not `revision` (any more, or it expired). JR_ETIMEOUT:
 * unknown. */
JR_MUST_CHECK int jr_js_kv_update(struct jr_js_kv *kv, const char *key, const void *value, size_t n,
                                  uint64_t revision, uint64_t *ret_revision, struct jr_errmsg *e);
/* revision 0: whatever it is, else JR_ECONFLICT when it is another. Leaves a delete marker. */
JR_MUST_CHECK int jr_js_kv_delete(struct jr_js_kv *kv, const char *key, uint64_t revision,
                                  struct jr_errmsg *e);

struct jr_js_kv_entry {
    char *key;
    uint8_t *value; /* NUL-terminated behind n */
    size_t n;
    uint64_t revision;
    int64_t time_ns; /* written at, Unix */
    bool deleted;    /* a delete marker; value is empty */
};
void jr_js_kv_entry_deinit(struct jr_js_kv_entry *entry);

/* From the stream leader. JR_ENOTFOUND: absent, expired or deleted (deleted: ret->deleted and
 * ret->revision are set, so that "removed on purpose" can be told from expiry). */
JR_MUST_CHECK int jr_js_kv_get(struct jr_js_kv *kv, const char *key, struct jr_js_kv_entry *ret,
                               struct jr_errmsg *e);

struct jr_js_kv_list {
    struct jr_js_kv_entry *entries;
    uint32_t n;
};
/* All keys as of one moment, by name, delete markers included (deleted set). Returns owned entries. */
JR_MUST_CHECK int jr_js_kv_list(struct jr_js_kv *kv, struct jr_js_kv_list *ret,
                                struct jr_errmsg *e);
void jr_js_kv_list_deinit(struct jr_js_kv_list *list);

/* watch: changes delivered to the loop. After each (re)creation of its consumer all present keys
 * come first, then LISTED: a key not seen since RELIST is gone. */
enum jr_js_kv_watch_event {
    JR_JS_KV_RELIST, /* what follows is a full list */
    JR_JS_KV_PUT,
    JR_JS_KV_DELETE,
    JR_JS_KV_LISTED,
    JR_JS_KV_LOST, /* nothing is known until the next RELIST … LISTED */
};
/* Loop thread. entry is borrowed, NULL but for PUT and DELETE. */
typedef void jr_js_kv_watch_fn(void *ctx, enum jr_js_kv_watch_event event,
                               const struct jr_js_kv_entry *entry);

struct jr_js_kv_watch;
/* Loop thread, does not block. The bucket is created when missing, with kv's settings. */
JR_MUST_CHECK int jr_js_kv_watch_create(struct jr_js_kv *kv, struct jr_loop *loop,
                                        jr_js_kv_watch_fn *fn, void *ctx,
                                        struct jr_js_kv_watch **ret);
/* As jr_js_reader_close. Takes the watch; kv may be destroyed at once. */
void jr_js_kv_watch_close(struct jr_js_kv_watch *watch, void (*cb)(void *ctx), void *ctx);

#endif
