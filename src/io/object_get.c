/* SPDX-License-Identifier: Apache-2.0 */
/* Reading an object, verified. */
#include "base/mem.h"
#include "io/js_consumer.h"
#include "io/object_store_priv.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define TRIES         3
#define CHUNK_WAIT_MS 5000
#define RETRY_MS      200 /* a consumer may sit on a peer that lags behind the stream leader */

struct get {
    struct jr_object_store *store;
    const struct jr_object_info *info;
    jr_object_chunk_fn *fn;
    void *ctx;
    int fn_err; /* what the caller's function said: not ours to try again */
    EVP_MD_CTX *sha;
    uint64_t size;
    uint32_t chunks;
};

static int take_chunk(struct get *g, const void *p, size_t n, struct jr_errmsg *e)
{
    if (n > g->info->size - g->size)
        return jr_errmsg_set(e, JR_ECORRUPT, "object: more bytes than its meta says");
    if (EVP_DigestUpdate(g->sha, p, n) != 1)
        return jr_errmsg_set(e, JR_EINTERNAL, "object: SHA-256 failed");
    g->fn_err = g->fn(g->ctx, g->size, p, n);
    if (g->fn_err != 0)
        return jr_errmsg_set(e, g->fn_err, "object: refused by its reader");
    g->size += n;
    g->chunks++;
    return 0;
}

/* Takes the chunks until all are there or the stream has no more. */
static int read_chunks(struct get *g, struct jr_js_consumer *c, struct jr_errmsg *e)
{
    struct jr_js_meta meta;
    int rv = 0;

    while (rv == 0 && g->chunks < g->info->chunks) {
        natsMsg *m = NULL;
        if (jr_js_consumer_drained(c))
            return jr_errmsg_set(e, JR_ETRUNC, "object: chunks are missing");
        rv = jr_js_consumer_next(c, CHUNK_WAIT_MS, &m, &meta, e);
        if (rv == 0)
            rv = take_chunk(g, natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m), e);
        else if (rv == JR_EAGAIN)
            rv = jr_js_consumer_drained(c) ? 0
                                           : jr_errmsg_set(e, JR_ETIMEOUT, "object: no chunk came");
        else if (rv == JR_EGAP)
            rv = JR_ETRUNC;
        natsMsg_Destroy(m);
    }
    return rv;
}

static int verify(struct get *g, struct jr_errmsg *e)
{
    uint8_t sha[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (g->size != g->info->size)
        return jr_errmsg_set(e, JR_ECORRUPT, "object: its size is wrong");
    if (EVP_DigestFinal_ex(g->sha, sha, &n) != 1)
        return jr_errmsg_set(e, JR_EINTERNAL, "object: SHA-256 failed");
    if (g->info->has_digest && memcmp(sha, g->info->sha256, sizeof g->info->sha256) != 0)
        return jr_errmsg_set(e, JR_ECORRUPT, "object: its SHA-256 is wrong");
    return 0;
}

/* JR_ETRUNC: chunks are missing. */
static int get_once(struct get *g, struct jr_errmsg *e)
{
    char subject[JR_OBJECT_SUBJECT_MAX];
    struct jr_js_consumer_config config = {
        .nats = g->store->nats, .stream = g->store->stream, .filter = subject};
    struct jr_js_consumer *c = NULL;
    int rv = 0;

    g->size = 0;
    g->chunks = 0;
    if (EVP_DigestInit_ex(g->sha, EVP_sha256(), NULL) != 1)
        return jr_errmsg_set(e, JR_EINTERNAL, "object: no SHA-256");
    if (g->info->chunks > 0) {
        rv = jr_object_chunk_subject(g->store->bucket, g->info->nuid, subject, sizeof subject);
        if (rv == 0)
            rv = jr_js_consumer_create(&config, &c, e);
        if (rv == 0)
            rv = read_chunks(g, c, e);
        jr_js_consumer_destroy(c);
    }
    return rv != 0 ? rv : verify(g, e);
}

static int read_info(struct jr_object_store *s, const char *name, uint64_t max_bytes,
                     struct jr_object_info *ret, struct jr_errmsg *e)
{
    int rv = jr_object_info(s, name, ret, e);

    if (rv != 0)
        return rv;
    if (ret->deleted)
        return jr_errmsg_set(e, JR_ENOTFOUND, "object \"%s\": deleted", name);
    if (ret->size > max_bytes)
        return jr_errmsg_set(e, JR_EINVAL, "object \"%s\": %llu bytes, at most %llu are read", name,
                             (unsigned long long)ret->size, (unsigned long long)max_bytes);
    return 0;
}

/* After a failed attempt: try again with what the meta says now? Else the error to return. */
static int look_again(struct get *g, const char *name, uint64_t max_bytes, int err,
                      struct jr_object_info *info, struct jr_errmsg *e)
{
    struct jr_object_info now;

    if (g->fn_err != 0 || (err != JR_ETRUNC && err != JR_ECORRUPT && err != JR_ETIMEOUT))
        return err;
    int rv = read_info(g->store, name, max_bytes, &now, e);
    if (rv != 0)
        return rv;
    bool replaced = strcmp(now.nuid, info->nuid) != 0;
    *info = now;
    if (!replaced && err == JR_ECORRUPT)
        return err;
    if (!replaced)
        nats_Sleep(RETRY_MS);
    return 0;
}

int jr_object_get(struct jr_object_store *store, const char *name, uint64_t max_bytes,
                  jr_object_chunk_fn *fn, void *ctx, struct jr_object_info *ret_info,
                  struct jr_errmsg *e)
{
    struct jr_object_info info;
    struct get g = {.store = store, .info = &info, .fn = fn, .ctx = ctx};
    int rv = read_info(store, name, max_bytes, &info, e);

    if (rv != 0)
        return rv;
    g.sha = EVP_MD_CTX_new();
    if (g.sha == NULL)
        return jr_errmsg_set(e, JR_ENOMEM, "object: no SHA-256");
    for (int i = 1;; i++) {
        rv = get_once(&g, e);
        if (rv == 0 || i == TRIES)
            break;
        rv = look_again(&g, name, max_bytes, rv, &info, e);
        if (rv != 0)
            break;
    }
    EVP_MD_CTX_free(g.sha);
    if (rv == JR_ETRUNC && g.fn_err == 0)
        rv = jr_errmsg_set(e, JR_ECORRUPT, "object \"%s\": chunks are missing", name);
    if (rv == 0 && ret_info != NULL)
        *ret_info = info;
    return rv;
}

struct memory {
    uint8_t *p;
    size_t n, cap;
};

static int to_memory(void *ctx, uint64_t offset, const void *p, size_t n)
{
    struct memory *m = ctx;
    size_t end = (size_t)offset + n;

    if (end + 1 > m->cap) {
        m->cap = end + 1 > 2 * m->cap ? end + 1 : 2 * m->cap;
        m->p = jr_xrealloc(m->p, m->cap);
    }
    memcpy(m->p + offset, p, n);
    m->n = end;
    return 0;
}

int jr_object_read(struct jr_object_store *store, const char *name, uint64_t max_bytes,
                   uint8_t **ret, size_t *ret_n, struct jr_object_info *ret_info,
                   struct jr_errmsg *e)
{
    struct jr_object_info info;
    struct memory m = {.p = jr_xalloc(1), .cap = 1};
    int rv = jr_object_get(store, name, max_bytes, to_memory, &m, &info, e);

    if (rv != 0) {
        jr_xfree(m.p);
        return rv;
    }
    *ret = m.p;
    *ret_n = (size_t)info.size;
    if (ret_info != NULL)
        *ret_info = info;
    return 0;
}
