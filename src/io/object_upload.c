/* SPDX-License-Identifier: Apache-2.0 */
/* Phase one of writing an object: its chunks. */
#include "base/failpoint.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/loop.h"
#include "io/nats_priv.h"
#include "io/object_store_priv.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define WINDOW_CHUNKS 16
#define NUID_CHARS    22 /* 131 bits */

struct jr_upload {
    struct jr_object_store *store;
    struct jr_object_info info;
    char subject[JR_OBJECT_SUBJECT_MAX];
    EVP_MD_CTX *sha;
    uint8_t *chunk; /* being filled */
    size_t chunk_n;
    /* Acknowledgements come to an inbox of this upload; one each. */
    natsInbox *inbox;
    natsSubscription *sub;
    uint32_t unacked;
    int failed; /* the first failure sticks */
    bool finished;
};

static void nuid_make(char *dst)
{
    static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    for (int i = 0; i < NUID_CHARS; i++)
        dst[i] = alphabet[randombytes_uniform(sizeof alphabet - 1)];
    dst[NUID_CHARS] = '\0';
}

static int upload_init(struct jr_upload *up, struct jr_errmsg *e)
{
    if (!jr_nats_connected(up->store->nats))
        return jr_errmsg_set(e, JR_ENONATS, "upload: not connected to NATS");
    if (sodium_init() < 0)
        return jr_errmsg_set(e, JR_EINTERNAL, "upload: no random numbers");
    nuid_make(up->info.nuid);
    int rv =
        jr_object_chunk_subject(up->store->bucket, up->info.nuid, up->subject, sizeof up->subject);
    if (rv != 0)
        return jr_errmsg_set(e, rv, "upload: no valid subject");
    up->sha = EVP_MD_CTX_new();
    if (up->sha == NULL || EVP_DigestInit_ex(up->sha, EVP_sha256(), NULL) != 1)
        return jr_errmsg_set(e, JR_EINTERNAL, "upload: no SHA-256");
    natsStatus s = natsInbox_Create(&up->inbox);
    if (s == NATS_OK)
        s = natsConnection_SubscribeSync(&up->sub, jr_nats_nc(up->store->nats), up->inbox);
    return jr_nats_error(s, 0, e, "upload");
}

int jr_upload_begin(struct jr_object_store *store, struct jr_upload **ret, struct jr_errmsg *e)
{
    struct jr_upload *up = jr_xalloc(sizeof *up);

    up->store = store;
    int rv = upload_init(up, e);
    if (rv != 0) {
        jr_upload_destroy(up);
        return rv;
    }
    up->chunk = jr_xalloc(store->chunk_bytes);
    *ret = up;
    return 0;
}

static int fail(struct jr_upload *up, int err)
{
    if (up->failed == 0)
        up->failed = err;
    return err;
}

/* Waits until at most `most` chunks are unacknowledged. */
static int await_acks(struct jr_upload *up, uint32_t most, struct jr_errmsg *e)
{
    while (up->unacked > most) {
        struct jr_pub_ack ack;
        natsMsg *reply = NULL;
        natsStatus s =
            natsSubscription_NextMsg(&reply, up->sub, jr_nats_timeout_ms(up->store->nats));
        if (s == NATS_NO_RESPONDERS)
            return fail(up, jr_errmsg_set(e, JR_ENOTFOUND, "upload: the bucket is gone"));
        if (s != NATS_OK)
            return fail(up, jr_nats_error(s, 0, e, "upload"));
        int rv = jr_pub_reply(reply, &ack, e);
        natsMsg_Destroy(reply);
        if (rv != 0)
            return fail(up, rv);
        up->unacked--;
    }
    return 0;
}

static int send_chunk(struct jr_upload *up, struct jr_errmsg *e)
{
    struct jr_pub pub = {.subject = up->subject, .payload = up->chunk, .n = up->chunk_n};
    natsMsg *m = NULL;
    int rv = await_acks(up, WINDOW_CHUNKS - 1, e);

    if (rv != 0)
        return rv;
    if (EVP_DigestUpdate(up->sha, up->chunk, up->chunk_n) != 1)
        return fail(up, jr_errmsg_set(e, JR_EINTERNAL, "upload: SHA-256 failed"));
    rv = jr_pub_to_msg(&pub, up->inbox, &m);
    if (rv != 0)
        return fail(up, jr_errmsg_set(e, rv, "upload: not a valid chunk"));
    natsStatus s = natsConnection_PublishMsg(jr_nats_nc(up->store->nats), m);
    natsMsg_Destroy(m);
    if (s != NATS_OK)
        return fail(up, jr_nats_error(s, 0, e, "upload"));
    up->unacked++;
    up->info.chunks++;
    up->info.size += up->chunk_n;
    up->chunk_n = 0;
    rv = JR_FAILPOINT("object.after_chunk");
    return rv < 0 ? fail(up, jr_errmsg_set(e, rv, "upload: as the failpoint says")) : 0;
}

int jr_upload_write(struct jr_upload *upload, const void *p, size_t n, struct jr_errmsg *e)
{
    const uint8_t *from = p;
    const size_t cap = upload->store->chunk_bytes;

    if (upload->failed != 0)
        return jr_errmsg_set(e, upload->failed, "upload: it failed before");
    while (n > 0) {
        size_t part = cap - upload->chunk_n;
        if (part > n)
            part = n;
        memcpy(upload->chunk + upload->chunk_n, from, part);
        upload->chunk_n += part;
        from += part;
        n -= part;
        if (upload->chunk_n == cap) {
            int rv = send_chunk(upload, e);
            if (rv != 0)
                return rv;
        }
    }
    return 0;
}

int jr_upload_finish(struct jr_upload *upload, struct jr_object_info *ret, struct jr_errmsg *e)
{
    unsigned sha_n = 0;
    int rv = 0;

    if (upload->failed != 0)
        return jr_errmsg_set(e, upload->failed, "upload: it failed before");
    if (upload->chunk_n > 0)
        rv = send_chunk(upload, e);
    if (rv == 0)
        rv = await_acks(upload, 0, e);
    if (rv != 0)
        return rv;
    if (EVP_DigestFinal_ex(upload->sha, upload->info.sha256, &sha_n) != 1)
        return fail(upload, jr_errmsg_set(e, JR_EINTERNAL, "upload: SHA-256 failed"));
    upload->info.has_digest = true;
    upload->finished = true;
    *ret = upload->info;
    return 0;
}

bool jr_upload_finished(const struct jr_upload *upload)
{
    return upload->finished;
}

void jr_upload_abort(struct jr_upload *upload)
{
    if (upload == NULL)
        return;
    /* What does not succeed here is found as an orphan later. */
    if (upload->info.chunks > 0 &&
        jr_object_purge_chunks(upload->store, upload->info.nuid, NULL) != 0)
        jr_log(JR_LOG_INFO, "object.chunks_left", "nuid=%s", upload->info.nuid);
    jr_upload_destroy(upload);
}

void jr_upload_destroy(struct jr_upload *upload)
{
    if (upload == NULL)
        return;
    jr_nats_drop_sub(upload->store->nats, upload->sub);
    natsInbox_Destroy(upload->inbox);
    EVP_MD_CTX_free(upload->sha);
    jr_xfree(upload->chunk);
    jr_xfree(upload);
}
