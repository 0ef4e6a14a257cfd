/* SPDX-License-Identifier: Apache-2.0 */
#include "io/js_kv.h"

#include "base/mem.h"
#include "base/str.h"
#include "io/js_consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TTL_MS_MIN      100 /* the server's least max age of a bucket that also de-duplicates */
#define LIST_TRIES      3
#define LIST_WAIT_MS    5000
#define LIST_LOOKS      20 /* at how many keys the bucket holds */
#define LIST_RENEWED_MS 200
#define KEY_MAX         256

struct jr_js_kv {
    struct jr_nats *nats;
    char stream[JR_STREAM_NAME_MAX];  /* KV_{bucket} */
    char prefix[JR_STREAM_NAME_MAX];  /* $KV.{bucket}. */
    char subject[JR_STREAM_NAME_MAX]; /* $KV.{bucket}.> */
    const char *subjects[1];
    struct jr_stream_config config; /* its strings are ours */
};

static bool bucket_valid(const char *bucket)
{
    size_t n = strspn(bucket, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

    return n > 0 && bucket[n] == '\0' && n < JR_STREAM_NAME_MAX - 8;
}

static bool key_valid(const char *key)
{
    size_t n = strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_=/.-");

    return n > 0 && n < KEY_MAX && key[n] == '\0' && key[0] != '.' && key[n - 1] != '.' &&
           strstr(key, "..") == NULL;
}

/* --- open --- */

static struct jr_js_kv *kv_new(struct jr_nats *nats, const struct jr_js_kv_config *c)
{
    struct jr_js_kv *kv = jr_xalloc(sizeof *kv);

    kv->nats = nats;
    snprintf(kv->stream, sizeof kv->stream, "KV_%s", c->bucket);
    snprintf(kv->prefix, sizeof kv->prefix, "$KV.%s.", c->bucket);
    snprintf(kv->subject, sizeof kv->subject, "$KV.%s.>", c->bucket);
    kv->subjects[0] = kv->subject;
    kv->config = (struct jr_stream_config){
        .name = kv->stream,
        .subjects = kv->subjects,
        .n_subjects = 1,
        .memory = c->memory,
        .replicas = c->replicas,
        .max_age_ms = c->ttl_ms,
        .max_bytes = c->max_bytes,
        .max_msgs_per_subject = 1,
        .allow_rollup = true,
        .allow_direct = true,
        .deny_delete = true,
    };
    return kv;
}

int jr_js_kv_open(struct jr_nats *nats, const struct jr_js_kv_config *config, struct jr_js_kv **ret,
                  int64_t *ret_ttl_ms, struct jr_errmsg *e)
{
    struct jr_stream_info info;
    struct jr_js_kv *kv;
    int rv;

    if (!bucket_valid(config->bucket))
        return jr_errmsg_set(e, JR_EINVAL, "bucket \"%s\": not a valid name", config->bucket);
    if (config->ttl_ms != 0 && config->ttl_ms < TTL_MS_MIN)
        return jr_errmsg_set(e, JR_EINVAL, "bucket %s: a TTL is at least %d ms", config->bucket,
                             TTL_MS_MIN);
    kv = kv_new(nats, config);
    rv = jr_stream_open(nats, &kv->config, &info, e);
    if (rv != 0) {
        jr_xfree(kv);
        return rv;
    }
    if (ret_ttl_ms != NULL)
        *ret_ttl_ms = info.max_age_ms;
    *ret = kv;
    return 0;
}

void jr_js_kv_destroy(struct jr_js_kv *kv)
{
    jr_xfree(kv);
}

/* --- write --- */

static int write_key(struct jr_js_kv *kv, const char *key, struct jr_pub pub,
                     uint64_t *ret_revision, struct jr_errmsg *e)
{
    char subject[JR_STREAM_NAME_MAX + KEY_MAX];
    struct jr_pub_ack ack;

    if (!key_valid(key))
        return jr_errmsg_set(e, JR_EINVAL, "key \"%s\": not a valid key", key);
    snprintf(subject, sizeof subject, "%s%s", kv->prefix, key);
    pub.subject = subject;
    int rv = jr_js_publish(kv->nats, &pub, &ack, e);
    if (rv == JR_ENOTFOUND)
        jr_stream_forget(kv->nats, kv->stream);
    if (rv == 0 && ret_revision != NULL)
        *ret_revision = ack.seq;
    return rv;
}

int jr_js_kv_put(struct jr_js_kv *kv, const char *key, const void *value, size_t n,
                 uint64_t *ret_revision, struct jr_errmsg *e)
{
    struct jr_pub pub = {.payload = value, .n = n};

    return write_key(kv, key, pub, ret_revision, e);
}

int jr_js_kv_update(struct jr_js_kv *kv, const char *key, const void *value, size_t n,
                    uint64_t revision, uint64_t *ret_revision, struct jr_errmsg *e)
{
    struct jr_pub pub = {
        .payload = value, .n = n, .expect_last = true, .last_subject_seq = revision};

    return write_key(kv, key, pub, ret_revision, e);
}

int jr_js_kv_create(struct jr_js_kv *kv, const char *key, const void *value, size_t n,
                    uint64_t *ret_revision, struct jr_errmsg *e)
{
    struct jr_js_kv_entry entry;
    int rv = jr_js_kv_update(kv, key, value, n, 0, ret_revision, e);

    if (rv != JR_ECONFLICT)
        return rv;
    /* What stands there may be a delete marker: then its revision is the one to replace. */
    if (jr_js_kv_get(kv, key, &entry, NULL) == 0) {
        jr_js_kv_entry_deinit(&entry);
        return rv;
    }
    if (!entry.deleted)
        return rv;
    return jr_js_kv_update(kv, key, value, n, entry.revision, ret_revision, e);
}

int jr_js_kv_delete(struct jr_js_kv *kv, const char *key, uint64_t revision, struct jr_errmsg *e)
{
    struct jr_pub pub = {
        .headers = {{"KV-Operation", "DEL"}},
        .expect_last = revision != 0,
        .last_subject_seq = revision,
    };

    return write_key(kv, key, pub, NULL, e);
}

/* --- read --- */

void jr_js_kv_entry_deinit(struct jr_js_kv_entry *entry)
{
    jr_xfree(entry->key);
    jr_xfree(entry->value);
    *entry = (struct jr_js_kv_entry){0};
}

static uint8_t *copy_value(const void *p, size_t n)
{
    uint8_t *copy = jr_xalloc(n + 1); /* zeroed: ends with NUL */

    if (n > 0)
        memcpy(copy, p, n);
    return copy;
}

/* DEL and PURGE are ours and other clients'; the marker reason is a newer server's, at expiry. */
static bool is_marker(const char *operation, const char *reason)
{
    return (operation != NULL && strcmp(operation, "PUT") != 0) || reason != NULL;
}

int jr_js_kv_get(struct jr_js_kv *kv, const char *key, struct jr_js_kv_entry *ret,
                 struct jr_errmsg *e)
{
    char subject[JR_STREAM_NAME_MAX + KEY_MAX];
    struct jr_stored *st = NULL;

    *ret = (struct jr_js_kv_entry){0};
    if (!key_valid(key))
        return jr_errmsg_set(e, JR_EINVAL, "key \"%s\": not a valid key", key);
    snprintf(subject, sizeof subject, "%s%s", kv->prefix, key);
    int rv = jr_stored_last(kv->nats, kv->stream, subject, &st, e);
    if (rv != 0)
        return rv;
    ret->revision = st->seq;
    ret->time_ns = st->time_ns;
    ret->deleted =
        is_marker(jr_stored_header(st, "KV-Operation"), jr_stored_header(st, "Nats-Marker-Reason"));
    if (ret->deleted) {
        rv = jr_errmsg_set(e, JR_ENOTFOUND, "%s: deleted", key);
    } else {
        ret->key = jr_xstrdup(key);
        ret->value = copy_value(st->payload, st->n);
        ret->n = st->n;
    }
    jr_stored_destroy(st);
    return rv;
}

static const char *header(natsMsg *m, const char *key)
{
    const char *value = NULL;

    return natsMsgHeader_Get(m, key, &value) == NATS_OK ? value : NULL;
}

static void list_add(const struct jr_js_kv *kv, struct jr_js_kv_list *list, natsMsg *m,
                     const struct jr_js_meta *meta)
{
    size_t n = (size_t)natsMsg_GetDataLength(m);

    list->entries = jr_xrealloc(list->entries, (list->n + 1) * sizeof *list->entries);
    list->entries[list->n++] = (struct jr_js_kv_entry){
        .key = jr_xstrdup(natsMsg_GetSubject(m) + strlen(kv->prefix)),
        .value = copy_value(natsMsg_GetData(m), n),
        .n = n,
        .revision = meta->seq,
        .time_ns = meta->time_ns,
        .deleted = is_marker(header(m, "KV-Operation"), header(m, "Nats-Marker-Reason")),
    };
}

/* A key written while the list is read may come twice: the newer, later one stays. */
static int by_key_and_revision(const void *a, const void *b)
{
    const struct jr_js_kv_entry *x = a, *y = b;
    int by_key = strcmp(x->key, y->key);

    return by_key != 0 ? by_key : (x->revision > y->revision) - (x->revision < y->revision);
}

static void remove_older(struct jr_js_kv_list *list)
{
    uint32_t kept = 0;

    if (list->n > 0)
        qsort(list->entries, list->n, sizeof *list->entries, by_key_and_revision);
    for (uint32_t i = 0; i < list->n; i++) {
        bool older = i + 1 < list->n && strcmp(list->entries[i].key, list->entries[i + 1].key) == 0;
        if (older)
            jr_js_kv_entry_deinit(&list->entries[i]);
        else
            list->entries[kept++] = list->entries[i];
    }
    list->n = kept;
}

/* A list that is being read. */
struct listing {
    struct jr_js_kv *kv;
    struct jr_js_consumer *consumer;
    struct jr_js_kv_list *list;
    uint64_t seen; /* the newest revision that came */
};

/* JR_EAGAIN: nothing within timeout_ms. */
static int list_next(struct listing *l, uint32_t timeout_ms, struct jr_errmsg *e)
{
    struct jr_js_meta meta;
    natsMsg *m = NULL;
    int rv = jr_js_consumer_next(l->consumer, timeout_ms, &m, &meta, e);

    if (rv == 0) {
        l->seen = meta.seq;
        if (strncmp(natsMsg_GetSubject(m), l->kv->prefix, strlen(l->kv->prefix)) == 0)
            list_add(l->kv, l->list, m, &meta);
    }
    natsMsg_Destroy(m);
    return rv;
}

/* What was there when the consumer was made. */
static int list_stored(struct listing *l, struct jr_errmsg *e)
{
    int rv = 0;

    while (rv == 0 && !jr_js_consumer_drained(l->consumer)) {
        rv = list_next(l, LIST_WAIT_MS, e);
        /* Nothing came, but the heartbeats did: a late idle one says "drained". */
        if (rv == JR_EAGAIN)
            rv = jr_js_consumer_drained(l->consumer)
                     ? 0
                     : jr_errmsg_set(e, JR_ETIMEOUT, "list: no answer");
    }
    return rv;
}

/* A key that was renewed before its turn came is not among what was stored: its old message is gone,
 * the new one follows behind the last. So it is read on until as many keys are known as the bucket
 * holds (one message each), up to its last message. 0; JR_EAGAIN: not yet. */
static int list_renewed(struct listing *l, struct jr_errmsg *e)
{
    struct jr_stream_info info;
    int rv = jr_stream_info(l->kv->nats, l->kv->stream, &info, e);

    while (rv == 0 && info.msgs > 0 && l->seen < info.last_seq)
        rv = list_next(l, LIST_RENEWED_MS, e);
    if (rv < 0 && rv != JR_EAGAIN) /* EAGAIN: the last message is gone, with its age */
        return rv;
    remove_older(l->list);
    return l->list->n >= info.msgs ? 0 : JR_EAGAIN;
}

static int list_once(struct jr_js_kv *kv, struct jr_js_kv_list *list, struct jr_errmsg *e)
{
    const struct jr_js_consumer_config config = {
        .nats = kv->nats,
        .stream = kv->stream,
        .filter = kv->subject, /* the server wants one with last per subject */
        .last_per_subject = true,
    };
    struct listing l = {.kv = kv, .list = list};
    int rv = jr_js_consumer_create(&config, &l.consumer, e);

    if (rv == 0)
        rv = list_stored(&l, e);
    if (rv == 0)
        rv = JR_EAGAIN;
    for (int i = 0; i < LIST_LOOKS && rv == JR_EAGAIN; i++)
        rv = list_renewed(&l, e);
    jr_js_consumer_destroy(l.consumer);
    return rv == JR_EAGAIN ? JR_EGAP : rv;
}

int jr_js_kv_list(struct jr_js_kv *kv, struct jr_js_kv_list *ret, struct jr_errmsg *e)
{
    struct jr_js_kv_list list = {0};
    int rv = JR_EGAP;

    for (int i = 0; i < LIST_TRIES && rv == JR_EGAP; i++) {
        jr_js_kv_list_deinit(&list);
        rv = list_once(kv, &list, e);
    }
    if (rv != 0) {
        jr_js_kv_list_deinit(&list);
        return rv == JR_EGAP ? JR_ETIMEOUT : rv;
    }
    *ret = list;
    return 0;
}

void jr_js_kv_list_deinit(struct jr_js_kv_list *list)
{
    for (uint32_t i = 0; i < list->n; i++)
        jr_js_kv_entry_deinit(&list->entries[i]);
    jr_xfree(list->entries);
    *list = (struct jr_js_kv_list){0};
}

/* --- watch --- */

struct jr_js_kv_watch {
    struct jr_js_reader *reader;
    jr_js_kv_watch_fn *fn;
    void *ctx;
    size_t prefix_n;
    bool listing; /* RELIST was said, for this creation of the consumer */
    void (*close_cb)(void *ctx);
    void *close_ctx;
};

static void begin_list(struct jr_js_kv_watch *w)
{
    w->listing = true;
    w->fn(w->ctx, JR_JS_KV_RELIST, NULL);
}

static void on_change(struct jr_js_kv_watch *w, struct jr_js_msg *msg)
{
    struct jr_js_kv_entry entry = {.n = msg->n, .revision = msg->seq, .time_ns = msg->time_ns};

    if (strlen(msg->subject) <= w->prefix_n)
        return;
    entry.key = jr_xstrdup(msg->subject + w->prefix_n);
    entry.value = copy_value(msg->payload, msg->n);
    entry.deleted = is_marker(jr_js_msg_header(msg, "KV-Operation"),
                              jr_js_msg_header(msg, "Nats-Marker-Reason"));
    w->fn(w->ctx, entry.deleted ? JR_JS_KV_DELETE : JR_JS_KV_PUT, &entry);
    jr_js_kv_entry_deinit(&entry);
}

static void on_msg(struct jr_js_msg *msg, void *ctx)
{
    struct jr_js_kv_watch *w = ctx;

    switch (msg->kind) {
    case JR_READ_MSG:
        if (!w->listing) /* a loss is always told before the next creation */
            begin_list(w);
        on_change(w, msg);
        break;
    case JR_READ_LIVE:
        if (!w->listing)
            begin_list(w); /* an empty bucket */
        w->fn(w->ctx, JR_JS_KV_LISTED, NULL);
        break;
    case JR_READ_LOST:
    case JR_READ_STOPPED:
        w->listing = false;
        w->fn(w->ctx, JR_JS_KV_LOST, NULL);
        break;
    }
    jr_js_msg_destroy(msg);
}

int jr_js_kv_watch_create(struct jr_js_kv *kv, struct jr_loop *loop, jr_js_kv_watch_fn *fn,
                          void *ctx, struct jr_js_kv_watch **ret)
{
    struct jr_js_kv_watch *w = jr_xalloc(sizeof *w);
    struct jr_js_reader_config config = {
        .nats = kv->nats,
        .loop = loop,
        .stream = kv->stream,
        .filter_subject = kv->subject,
        .from = JR_READ_LAST,
        .create = &kv->config,
        .on_msg = on_msg,
        .ctx = w,
    };

    w->fn = fn;
    w->ctx = ctx;
    w->prefix_n = strlen(kv->prefix);
    int rv = jr_js_reader_create(&config, &w->reader);
    if (rv != 0) {
        jr_xfree(w);
        return rv;
    }
    *ret = w;
    return 0;
}

static void on_reader_closed(void *ctx)
{
    struct jr_js_kv_watch *w = ctx;
    void (*cb)(void *ctx) = w->close_cb;
    void *close_ctx = w->close_ctx;

    jr_xfree(w);
    if (cb != NULL)
        cb(close_ctx);
}

void jr_js_kv_watch_close(struct jr_js_kv_watch *watch, void (*cb)(void *ctx), void *ctx)
{
    if (watch == NULL)
        return;
    watch->close_cb = cb;
    watch->close_ctx = ctx;
    jr_js_reader_close(watch->reader, on_reader_closed, watch);
}
