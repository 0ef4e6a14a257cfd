/* SPDX-License-Identifier: Apache-2.0 */
#include "io/object_store.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/nats_priv.h"
#include "io/object_store_priv.h"

#include <stdio.h>
#include <string.h>

/* --- open --- */

static struct jr_object_store *store_new(struct jr_nats *nats, const char *bucket,
                                         uint32_t chunk_bytes)
{
    struct jr_object_store *s = jr_xalloc(sizeof *s);

    s->nats = nats;
    s->chunk_bytes = chunk_bytes != 0 ? chunk_bytes : JR_SNAPSHOT_CHUNK;
    if (!jr_str_copy(s->bucket, sizeof s->bucket, bucket) ||
        jr_object_stream_name(bucket, s->stream, sizeof s->stream) != 0 ||
        jr_object_chunk_wildcard(bucket, s->chunks, sizeof s->chunks) != 0 ||
        jr_object_meta_wildcard(bucket, s->metas, sizeof s->metas) != 0) {
        jr_xfree(s);
        return NULL;
    }
    return s;
}

int jr_object_store_open(struct jr_nats *nats, const struct jr_object_store_config *config,
                         struct jr_object_store **ret, struct jr_errmsg *e)
{
    struct jr_object_store *s = store_new(nats, config->bucket, config->chunk_bytes);
    int rv;

    if (s == NULL)
        return jr_errmsg_set(e, JR_EINVAL, "bucket \"%s\": not a valid name", config->bucket);
    const char *subjects[] = {s->chunks, s->metas};
    struct jr_stream_config sc = {
        .name = s->stream,
        .subjects = subjects,
        .n_subjects = 2,
        .memory = config->memory,
        .replicas = config->replicas,
        .max_bytes = config->max_bytes,
        .allow_rollup = true,
        .allow_direct = true,
    };
    rv = jr_stream_open(nats, &sc, NULL, e);
    if (rv != 0)
        jr_xfree(s);
    else
        *ret = s;
    return rv;
}

int jr_object_store_open_existing(struct jr_nats *nats, const char *bucket,
                                  struct jr_object_store **ret, struct jr_errmsg *e)
{
    struct jr_object_store *s = store_new(nats, bucket, 0);
    struct jr_stream_info info;
    int rv;

    if (s == NULL)
        return jr_errmsg_set(e, JR_EINVAL, "bucket \"%s\": not a valid name", bucket);
    rv = jr_stream_info(nats, s->stream, &info, e);
    if (rv != 0)
        jr_xfree(s);
    else
        *ret = s;
    return rv;
}

void jr_object_store_destroy(struct jr_object_store *store)
{
    jr_xfree(store);
}

/* --- meta --- */

static int info_of(const struct jr_stored *st, struct jr_object_info *ret, struct jr_errmsg *e)
{
    struct jr_object_meta m;
    int rv = jr_object_meta_decode(st->payload, st->n, &m, e);

    if (rv != 0)
        return rv;
    *ret = (struct jr_object_info){
        .revision = st->seq,
        .time_ns = st->time_ns,
        .size = m.size,
        .chunks = m.chunks,
        .has_digest = m.has_digest,
        .deleted = m.deleted,
    };
    memcpy(ret->nuid, m.nuid, sizeof ret->nuid);
    memcpy(ret->sha256, m.digest, sizeof ret->sha256);
    return 0;
}

/* The meta message itself; returned owned. */
static int meta_get(struct jr_object_store *s, const char *name, struct jr_stored **ret,
                    struct jr_errmsg *e)
{
    char subject[JR_OBJECT_SUBJECT_MAX];
    int rv = jr_object_meta_subject(s->bucket, name, subject, sizeof subject);

    if (rv != 0)
        return jr_errmsg_set(e, rv, "object \"%s\": not a valid name", name);
    return jr_stored_last(s->nats, s->stream, subject, ret, e);
}

int jr_object_info(struct jr_object_store *store, const char *name, struct jr_object_info *ret,
                   struct jr_errmsg *e)
{
    struct jr_stored *st = NULL;
    int rv = meta_get(store, name, &st, e);

    if (rv != 0)
        return rv;
    rv = info_of(st, ret, e);
    jr_stored_destroy(st);
    return rv;
}

static int meta_publish(struct jr_object_store *s, const char *name, const void *p, size_t n,
                        uint64_t expected_revision, uint64_t *ret_revision, struct jr_errmsg *e)
{
    char subject[JR_OBJECT_SUBJECT_MAX];
    struct jr_pub_ack ack;
    struct jr_pub pub = {
        .subject = subject,
        .payload = p,
        .n = n,
        .rollup = true,
        .expect_last = true,
        .last_subject_seq = expected_revision,
    };
    int rv = jr_object_meta_subject(s->bucket, name, subject, sizeof subject);

    if (rv != 0)
        return jr_errmsg_set(e, rv, "object \"%s\": not a valid name", name);
    rv = jr_js_publish(s->nats, &pub, &ack, e);
    if (rv == 0 && ret_revision != NULL)
        *ret_revision = ack.seq;
    return rv;
}

int jr_object_commit(struct jr_object_store *store, const char *name,
                     const struct jr_object_info *object, uint64_t expected_revision,
                     uint64_t *ret_revision, struct jr_errmsg *e)
{
    struct jr_object_meta m = {
        .size = object->size,
        .chunks = object->chunks,
        .max_chunk_size = store->chunk_bytes,
        .mtime_ns = jr_unix_ns(),
        .has_digest = object->has_digest,
        .deleted = object->deleted,
    };
    struct jr_buf b;
    int rv;

    if (!jr_str_copy(m.name, sizeof m.name, name) ||
        !jr_str_copy(m.bucket, sizeof m.bucket, store->bucket))
        return jr_errmsg_set(e, JR_ELIMIT, "object \"%s\": the name is too long", name);
    memcpy(m.nuid, object->nuid, sizeof m.nuid);
    memcpy(m.digest, object->sha256, sizeof m.digest);
    jr_buf_init(&b, JR_OBJECT_META_BYTES_MAX);
    rv = jr_object_meta_encode(&m, &b);
    if (rv == 0)
        rv = meta_publish(store, name, b.p, b.n, expected_revision, ret_revision, e);
    else
        jr_errmsg_set(e, rv, "object \"%s\": its meta cannot be written", name);
    jr_buf_deinit(&b);
    return rv;
}

int jr_object_refresh(struct jr_object_store *store, const char *name, uint64_t expected_revision,
                      uint64_t *ret_revision, struct jr_errmsg *e)
{
    struct jr_stored *st = NULL;
    int rv = meta_get(store, name, &st, e);

    if (rv != 0)
        return rv;
    if (st->seq != expected_revision)
        rv = jr_errmsg_set(e, JR_ECONFLICT, "object \"%s\": somebody else wrote it", name);
    else
        rv = meta_publish(store, name, st->payload, st->n, expected_revision, ret_revision, e);
    jr_stored_destroy(st);
    return rv;
}

/* --- put, delete --- */

/* After an unknown outcome: is what the meta names ours? */
static int settle(struct jr_object_store *s, const char *name, const char *nuid,
                  uint64_t *ret_revision, struct jr_errmsg *e)
{
    struct jr_object_info now;
    int rv = jr_object_info(s, name, &now, NULL);

    if (rv != 0 && rv != JR_ENOTFOUND)
        return jr_errmsg_set(e, JR_ETIMEOUT, "object \"%s\": outcome unknown", name);
    if (rv == 0 && strcmp(now.nuid, nuid) == 0) {
        *ret_revision = now.revision;
        return 0;
    }
    return jr_errmsg_set(e, JR_ETIMEOUT, "object \"%s\": not written (yet)", name);
}

int jr_object_put(struct jr_object_store *store, const char *name, const void *p, size_t n,
                  uint64_t expected_revision, struct jr_object_info *ret, struct jr_errmsg *e)
{
    struct jr_object_info old = {0}, object;
    struct jr_upload *up = NULL;
    int rv;

    rv = jr_object_info(store, name, &old, e);
    if (rv != 0 && rv != JR_ENOTFOUND)
        return rv;
    if (old.revision != expected_revision)
        return jr_errmsg_set(e, JR_ECONFLICT, "object \"%s\": somebody else wrote it", name);
    rv = jr_upload_begin(store, &up, e);
    if (rv != 0)
        return rv;
    rv = jr_upload_write(up, p, n, e);
    if (rv == 0)
        rv = jr_upload_finish(up, &object, e);
    if (rv == 0)
        rv = jr_object_commit(store, name, &object, expected_revision, &object.revision, e);
    if (rv == JR_ETIMEOUT && up != NULL && jr_upload_finished(up))
        rv = settle(store, name, object.nuid, &object.revision, e);
    if (rv != 0) {
        /* Unknown: the chunks may be named, they stay for jr_object_orphans. */
        if (rv == JR_ETIMEOUT)
            jr_upload_destroy(up);
        else
            jr_upload_abort(up);
        return rv;
    }
    jr_upload_destroy(up);
    if (old.revision != 0 && old.nuid[0] != '\0' && !old.deleted &&
        jr_object_purge_chunks(store, old.nuid, NULL) != 0)
        jr_log(JR_LOG_INFO, "object.chunks_left", "nuid=%s", old.nuid); /* found as orphans */
    if (ret != NULL)
        *ret = object;
    return 0;
}

int jr_object_delete(struct jr_object_store *store, const char *name, uint64_t expected_revision,
                     struct jr_errmsg *e)
{
    struct jr_object_info info, gone;
    int rv = jr_object_info(store, name, &info, e);

    if (rv != 0)
        return rv;
    if (info.revision != expected_revision)
        return jr_errmsg_set(e, JR_ECONFLICT, "object \"%s\": somebody else wrote it", name);
    gone = (struct jr_object_info){.deleted = true};
    memcpy(gone.nuid, info.nuid, sizeof gone.nuid);
    rv = jr_object_commit(store, name, &gone, expected_revision, NULL, e);
    if (rv != 0)
        return rv;
    return jr_object_purge_chunks(store, info.nuid, e);
}

/* --- orphans --- */

/* All nuids that a living meta names. One that cannot be read is an error: nothing is safe then. */
static int named_nuids(struct jr_object_store *s, struct jr_nuid_list *ret, struct jr_errmsg *e)
{
    struct jr_subjects metas;
    int rv = jr_stream_subjects(s->nats, s->stream, s->metas, &metas, e);

    if (rv != 0)
        return rv;
    ret->nuids = jr_xalloc((metas.n + 1) * sizeof *ret->nuids);
    for (uint32_t i = 0; i < metas.n && rv == 0; i++) {
        struct jr_stored *st = NULL;
        struct jr_object_info info;
        rv = jr_stored_last(s->nats, s->stream, metas.list[i].subject, &st, e);
        if (rv == 0)
            rv = info_of(st, &info, e);
        jr_stored_destroy(st);
        if (rv == 0 && !info.deleted)
            memcpy(ret->nuids[ret->n++], info.nuid, JR_NUID_MAX);
        if (rv == JR_ENOTFOUND)
            rv = jr_errmsg_set(e, JR_ECONFLICT, "a meta vanished while it was read");
    }
    jr_subjects_deinit(&metas);
    return rv;
}

static bool list_has(const struct jr_nuid_list *list, const char *nuid)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (strcmp(list->nuids[i], nuid) == 0)
            return true;
    return false;
}

int jr_object_purge_chunks(struct jr_object_store *store, const char *nuid, struct jr_errmsg *e)
{
    char subject[JR_OBJECT_SUBJECT_MAX];
    struct jr_nuid_list named = {0};
    int rv = jr_object_chunk_subject(store->bucket, nuid, subject, sizeof subject);

    if (rv != 0)
        return jr_errmsg_set(e, rv, "\"%s\" is not a nuid", nuid);
    rv = named_nuids(store, &named, e);
    if (rv == 0 && list_has(&named, nuid))
        rv = jr_errmsg_set(e, JR_ECONFLICT, "chunks %s are in use", nuid);
    if (rv == 0)
        rv = jr_stream_purge_subject(store->nats, store->stream, subject, e);
    jr_nuid_list_deinit(&named);
    return rv;
}

int jr_object_orphans(struct jr_object_store *store, struct jr_nuid_list *ret, struct jr_errmsg *e)
{
    struct jr_nuid_list named = {0}, orphans = {0};
    struct jr_subjects chunks;
    /* Chunks first: what is committed in between then counts as named. */
    int rv = jr_stream_subjects(store->nats, store->stream, store->chunks, &chunks, e);

    if (rv != 0)
        return rv;
    rv = named_nuids(store, &named, e);
    if (rv != 0)
        goto out;
    orphans.nuids = jr_xalloc((chunks.n + 1) * sizeof *orphans.nuids);
    for (uint32_t i = 0; i < chunks.n; i++) {
        /* $O.B.C.nuid without the > of the wildcard */
        const char *nuid = chunks.list[i].subject + strlen(store->chunks) - 1;
        if (!list_has(&named, nuid) && jr_str_copy(orphans.nuids[orphans.n], JR_NUID_MAX, nuid))
            orphans.n++;
    }
    *ret = orphans;
out:
    jr_nuid_list_deinit(&named);
    jr_subjects_deinit(&chunks);
    return rv;
}

/* 0: collected; JR_EAGAIN: too young; JR_ENOTFOUND: gone meanwhile. */
static int collect_one(struct jr_object_store *s, const char *nuid, uint64_t grace_ms,
                       struct jr_errmsg *e)
{
    char subject[JR_OBJECT_SUBJECT_MAX];
    struct jr_stored *last = NULL;
    int rv = jr_object_chunk_subject(s->bucket, nuid, subject, sizeof subject);

    if (rv == 0)
        rv = jr_stored_last(s->nats, s->stream, subject, &last, e);
    if (rv != 0)
        return rv;
    int64_t age_ms = (jr_unix_ns() - last->time_ns) / 1000000;
    jr_stored_destroy(last);
    if (age_ms < 0 || (uint64_t)age_ms < grace_ms)
        return JR_EAGAIN;
    return jr_object_purge_chunks(s, nuid, e);
}

int jr_object_collect(struct jr_object_store *store, uint64_t grace_ms, uint32_t *ret_n,
                      struct jr_errmsg *e)
{
    struct jr_nuid_list orphans = {0};
    uint32_t n = 0;
    int rv = jr_object_orphans(store, &orphans, e);

    for (uint32_t i = 0; i < orphans.n && rv == 0; i++) {
        rv = collect_one(store, orphans.nuids[i], grace_ms, e);
        n += rv == 0;
        if (rv == JR_EAGAIN || rv == JR_ENOTFOUND || rv == JR_ECONFLICT)
            rv = 0; /* not an orphan of ours to take now */
    }
    jr_nuid_list_deinit(&orphans);
    if (ret_n != NULL)
        *ret_n = n;
    return rv;
}

void jr_nuid_list_deinit(struct jr_nuid_list *list)
{
    jr_xfree(list->nuids);
    *list = (struct jr_nuid_list){0};
}
