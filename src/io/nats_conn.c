/* SPDX-License-Identifier: Apache-2.0 */
#include "io/nats_conn.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/cond.h"
#include "io/nats_priv.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PING_INTERVAL_MS    5000
#define RECONNECT_WAIT_MS   250
#define RECONNECT_JITTER_MS 100
#define CLOSE_WAIT_S        5
#define AGAIN_FIRST_MS      500 /* after a refusal, doubled up to */
#define AGAIN_MOST_MS       10000
#define LOOK_MS             2000 /* between two looks why it does not reconnect */
#define CONNECT_TIMEOUT_MS  5000 /* to one server, until it has answered */
#define SERVERS_MAX         32
#define SEEN_MAX            1024 /* streams by hash; a pool has seven, a process may have many */
#define PAYLOAD_DEFAULT     (1 << 20)

#define DROP_WAIT_MS        1000

/* A subscription that was ended and may still be in use by the library's reader thread. */
struct dropped_sub {
    struct dropped_sub *next;
    natsSubscription *sub;
};

/* What the library gave up, with what may still be in use by a job under way. */
struct old_conn {
    struct old_conn *next;
    natsConnection *nc;
    jsCtx *js;
};

struct jr_nats {
    _Atomic(natsConnection *) nc;
    _Atomic(jsCtx *) js;
    natsOptions *opts;
    struct jr_loop *loop;
    jr_nats_event_fn *on_event;
    void *ctx;
    uint32_t timeout_ms;
    atomic_uint refs; /* the owner, nats.c until it says closed, each posted event */
    atomic_bool closing;
    atomic_uint_fast64_t asked_ns; /* when the library was last told to connect */
    atomic_bool connected;
    atomic_uint_least64_t generation, disconnects, errors;
    pthread_mutex_t mu;
    pthread_cond_t closed_cond;
    bool closed;         /* nc was given up */
    pthread_cond_t wake; /* for the thread that connects again: closed, or closing */
    pthread_t again;
    bool has_again;
    struct old_conn *old;
    struct dropped_sub *dropped;
    char nkey_seed[64];       /* "" unless the seed itself was given */
    struct jr_nats_told told; /* again: why it does not reconnect */
    atomic_uint_least64_t seen[SEEN_MAX];
};

struct event_msg {
    struct jr_msg msg;
    struct jr_nats *nats;
    enum jr_nats_event event;
    char text[200];
};

natsConnection *jr_nats_nc(struct jr_nats *nats)
{
    return nats->nc;
}

jsCtx *jr_nats_js(struct jr_nats *nats)
{
    return nats->js;
}

uint32_t jr_nats_timeout_ms(const struct jr_nats *nats)
{
    return nats->timeout_ms;
}

static uint64_t seen_key(uint64_t name_hash, uint64_t generation)
{
    return name_hash ^ (generation * UINT64_C(0x9e3779b97f4a7c15));
}

bool jr_nats_saw_stream(const struct jr_nats *nats, uint64_t name_hash)
{
    uint64_t key = seen_key(name_hash, jr_nats_generation(nats));
    return atomic_load(&nats->seen[name_hash % SEEN_MAX]) == key;
}

void jr_nats_see_stream(struct jr_nats *nats, uint64_t name_hash, uint64_t generation)
{
    uint64_t key = generation ? seen_key(name_hash, generation) : 0;
    atomic_store(&nats->seen[name_hash % SEEN_MAX], key);
}

static void nats_release(struct jr_nats *nats)
{
    if (atomic_fetch_sub(&nats->refs, 1) != 1)
        return;
    natsOptions_Destroy(nats->opts);
    pthread_cond_destroy(&nats->wake);
    pthread_cond_destroy(&nats->closed_cond);
    pthread_mutex_destroy(&nats->mu);
    jr_xfree(nats);
}

/* --- events --- */

static void event_drop(struct jr_msg *msg)
{
    struct event_msg *ev = (struct event_msg *)msg;

    nats_release(ev->nats);
    jr_xfree(ev);
}

static void event_deliver(struct jr_msg *msg)
{
    struct event_msg *ev = (struct event_msg *)msg;

    if (!atomic_load(&ev->nats->closing))
        ev->nats->on_event(ev->nats->ctx, ev->event, ev->text);
    event_drop(msg);
}

static void post_event(struct jr_nats *nats, enum jr_nats_event event, const char *text)
{
    struct event_msg *ev;

    if (nats->loop == NULL || nats->on_event == NULL || atomic_load(&nats->closing))
        return;
    ev = jr_xalloc(sizeof *ev);
    ev->msg.deliver = event_deliver;
    ev->msg.drop = event_drop;
    ev->nats = nats;
    ev->event = event;
    jr_str_copy(ev->text, sizeof ev->text, text != NULL ? text : "");
    atomic_fetch_add(&nats->refs, 1);
    jr_loop_post(nats->loop, &ev->msg);
}

static void mark_connected(struct jr_nats *nats, natsConnection *nc)
{
    char url[256] = "";

    atomic_fetch_add(&nats->generation, 1);
    atomic_store(&nats->connected, true);
    natsConnection_GetConnectedUrl(nc, url, sizeof url);
    post_event(nats, JR_NATS_CONNECTED, url);
}

static void on_connected(natsConnection *nc, void *closure)
{
    mark_connected(closure, nc);
}

static void on_disconnected(natsConnection *nc, void *closure)
{
    struct jr_nats *nats = closure;
    const char *why = NULL;

    natsConnection_GetLastError(nc, &why);
    /* The library calls this for each failed attempt in the background mode, too. */
    if (!atomic_exchange(&nats->connected, false))
        return;
    atomic_fetch_add(&nats->disconnects, 1);
    post_event(nats, JR_NATS_DISCONNECTED, why);
    pthread_mutex_lock(&nats->mu);
    pthread_cond_signal(&nats->wake);
    pthread_mutex_unlock(&nats->mu);
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus err, void *closure)
{
    struct jr_nats *nats = closure;
    const char *why = NULL;

    (void)sub; /* may be gone already (fixed in 3.7.0) */
    atomic_fetch_add(&nats->errors, 1);
    natsConnection_GetLastError(nc, &why);
    post_event(nats, JR_NATS_ERROR, why != NULL && why[0] != '\0' ? why : natsStatus_GetText(err));
}

static void set_closed(struct jr_nats *nats, bool closed)
{
    pthread_mutex_lock(&nats->mu);
    nats->closed = closed;
    pthread_cond_broadcast(&nats->closed_cond);
    pthread_cond_signal(&nats->wake);
    pthread_mutex_unlock(&nats->mu);
}

/* The library gives up on a server that refuses it twice, and on one that twice did not answer in
 * time; either may end as "no server". Only the former is for others to know, the latter is asked
 * again. A server that refuses does so at once. */
static void on_closed(natsConnection *nc, void *closure)
{
    struct jr_nats *nats = closure;
    const char *why = NULL;
    natsStatus last = natsConnection_GetLastError(nc, &why);
    uint64_t taken_ns = jr_loop_now_ns() - atomic_load(&nats->asked_ns);
    bool slow = last == NATS_NO_SERVER && taken_ns > CONNECT_TIMEOUT_MS * UINT64_C(1000000);
    bool was_connected = atomic_exchange(&nats->connected, false);

    if (!slow)
        post_event(nats, JR_NATS_CLOSED, why);
    else if (was_connected)
        post_event(nats, JR_NATS_DISCONNECTED, why);
    set_closed(nats, true);
    nats_release(nats);
}

/* --- connect --- */

static bool set(const char *s)
{
    return s != NULL && s[0] != '\0';
}

static natsStatus set_servers(natsOptions *opts, const char *servers, bool *ret_tls)
{
    char *copy = jr_xstrdup(set(servers) ? servers : "nats://localhost:4222");
    const char *list[SERVERS_MAX];
    char *save = NULL;
    int n = 0;
    natsStatus s = NATS_INVALID_ARG;

    for (char *p = strtok_r(copy, ", ", &save); p != NULL; p = strtok_r(NULL, ", ", &save)) {
        if (n == SERVERS_MAX)
            goto out;
        if (strncmp(p, "tls://", 6) == 0)
            *ret_tls = true;
        list[n++] = p;
    }
    if (n > 0)
        s = natsOptions_SetServers(opts, list, n);
out:
    jr_xfree(copy);
    return s;
}

static natsStatus set_behaviour(natsOptions *opts, struct jr_nats *nats,
                                const struct jr_nats_config *c)
{
    uint32_t timeout = c->connect_timeout_ms != 0 ? c->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    natsStatus s = natsOptions_SetTimeout(opts, timeout);

    if (s == NATS_OK)
        s = natsOptions_SetName(opts, set(c->name) ? c->name : "jetrouter");
    if (s == NATS_OK)
        s = natsOptions_SetAllowReconnect(opts, true);
    if (s == NATS_OK)
        s = natsOptions_SetMaxReconnect(opts, -1);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectWait(opts, RECONNECT_WAIT_MS);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectJitter(opts, RECONNECT_JITTER_MS, RECONNECT_JITTER_MS);
    /* 1 is the least: one message may slip in, the next is refused. */
    if (s == NATS_OK)
        s = natsOptions_SetReconnectBufSize(opts, 1);
    if (s == NATS_OK)
        s = natsOptions_SetPingInterval(opts, PING_INTERVAL_MS);
    if (s == NATS_OK)
        s = natsOptions_SetMaxPingsOut(opts, 2);
    if (s == NATS_OK)
        s = natsOptions_SetFailRequestsOnDisconnect(opts, true);
    /* Else its flusher lets every message wait 1 ms for others. What can be sent together we put
     * together ourselves. */
    if (s == NATS_OK)
        s = natsOptions_SetSendAsap(opts, true);
    if (s == NATS_OK)
        s = natsOptions_SetErrorHandler(opts, on_error, nats);
    if (s == NATS_OK)
        s = natsOptions_SetDisconnectedCB(opts, on_disconnected, nats);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectedCB(opts, on_connected, nats);
    if (s == NATS_OK)
        s = natsOptions_SetClosedCB(opts, on_closed, nats);
    if (s == NATS_OK && c->background)
        s = natsOptions_SetRetryOnFailedConnect(opts, true, on_connected, nats);
    return s;
}

static natsStatus set_tls(natsOptions *opts, const struct jr_nats_config *c, bool tls)
{
    natsStatus s = NATS_OK;

    if (tls || set(c->tls_ca) || set(c->tls_cert))
        s = natsOptions_SetSecure(opts, true);
    if (s == NATS_OK && set(c->tls_ca))
        s = natsOptions_LoadCATrustedCertificates(opts, c->tls_ca);
    if (s == NATS_OK && set(c->tls_cert))
        s = natsOptions_LoadCertificatesChain(opts, c->tls_cert, c->tls_key);
    if (s == NATS_OK && set(c->tls_hostname))
        s = natsOptions_SetExpectedHostname(opts, c->tls_hostname);
    return s;
}

/* nats.c's thread, at each connection: the server's nonce, signed. */
static natsStatus sign_nonce(char **error_text, unsigned char **signature, int *signature_n,
                             const char *nonce, void *closure)
{
    const struct jr_nats *nats = closure;

    (void)error_text;
    return nats_Sign(nats->nkey_seed, nonce, signature, signature_n);
}

static int set_nkey(struct jr_nats *nats, natsOptions *opts, const char *seed_or_file,
                    natsStatus *ret, struct jr_errmsg *e)
{
    char key[64];
    int rv = jr_nkey_public(seed_or_file, key, e);

    if (rv != 0)
        return rv;
    if (jr_nkey_is_seed(seed_or_file)) {
        (void)jr_str_copy(nats->nkey_seed, sizeof nats->nkey_seed, seed_or_file);
        *ret = natsOptions_SetNKey(opts, key, sign_nonce, nats);
    } else {
        *ret = natsOptions_SetNKeyFromSeed(opts, key, seed_or_file);
    }
    return 0;
}

static int set_auth(struct jr_nats *nats, natsOptions *opts, const struct jr_nats_config *c,
                    struct jr_errmsg *e)
{
    natsStatus s = NATS_OK;

    if (set(c->user)) {
        s = natsOptions_SetUserInfo(opts, c->user, c->password != NULL ? c->password : "");
    } else if (set(c->token)) {
        s = natsOptions_SetToken(opts, c->token);
    } else if (set(c->nkey_seed)) {
        int rv = set_nkey(nats, opts, c->nkey_seed, &s, e);
        if (rv != 0)
            return rv;
    } else if (set(c->creds_file)) {
        if (access(c->creds_file, R_OK) != 0)
            return jr_errmsg_set(e, JR_ECONFIG, "NATS credentials: %s: %s", c->creds_file,
                                 strerror(errno));
        s = natsOptions_SetUserCredentialsFromFiles(opts, c->creds_file, NULL);
    }
    if (s != NATS_OK)
        return jr_errmsg_set(e, JR_ECONFIG, "NATS credentials: %s", natsStatus_GetText(s));
    return 0;
}

static int make_options(struct jr_nats *nats, const struct jr_nats_config *c, natsOptions **ret,
                        struct jr_errmsg *e)
{
    natsOptions *opts = NULL;
    bool tls = false;
    int rv;

    if (natsOptions_Create(&opts) != NATS_OK)
        return jr_errmsg_set(e, JR_ENOMEM, "NATS options");
    if (set_servers(opts, c->servers, &tls) != NATS_OK) {
        rv = jr_errmsg_set(e, JR_EINVAL, "NATS servers: \"%s\" is not a list of URLs", c->servers);
        goto err_after_create;
    }
    natsStatus s = set_behaviour(opts, nats, c);
    if (s != NATS_OK) {
        rv = jr_nats_error(s, 0, e, "NATS options");
        goto err_after_create;
    }
    if (set_tls(opts, c, tls) != NATS_OK) {
        rv = jr_errmsg_set(e, JR_ECONFIG, "NATS TLS files: %s", nats_GetLastError(NULL));
        goto err_after_create;
    }
    rv = set_auth(nats, opts, c, e);
    if (rv != 0)
        goto err_after_create;
    *ret = opts;
    return 0;

err_after_create:
    natsOptions_Destroy(opts);
    return rv;
}

static struct jr_nats *nats_new(const struct jr_nats_config *c)
{
    struct jr_nats *nats = jr_xalloc(sizeof *nats);

    nats->loop = c->loop;
    nats->on_event = c->on_event;
    nats->ctx = c->ctx;
    nats->timeout_ms = c->request_timeout_ms != 0 ? c->request_timeout_ms : 5000;
    atomic_init(&nats->refs, 2); /* the owner and nats.c */
    pthread_mutex_init(&nats->mu, NULL);
    jr_cond_init(&nats->closed_cond);
    jr_cond_init(&nats->wake);
    return nats;
}

static natsStatus make_js(const struct jr_nats *nats, natsConnection *nc, jsCtx **ret)
{
    jsOptions jo;

    jsOptions_Init(&jo);
    jo.Wait = nats->timeout_ms;
    return natsConnection_JetStream(ret, nc, &jo);
}

static int open_connection(struct jr_nats *nats, bool background, struct jr_errmsg *e)
{
    natsConnection *nc = NULL;
    jsCtx *js = NULL;
    natsStatus s = NATS_OK;

    atomic_store(&nats->asked_ns, jr_loop_now_ns());
    s = natsConnection_Connect(&nc, nats->opts);
    nats->nc = nc;
    if (s == NATS_OK) {
        mark_connected(nats, nc);
    } else if (s != NATS_NOT_YET_CONNECTED || !background) {
        int rv = jr_nats_error(s, 0, e, "connecting to NATS");
        if (rv == JR_ETIMEOUT || rv == JR_EIO)
            return jr_errmsg_set(e, JR_ENONATS, "connecting to NATS: %s", natsStatus_GetText(s));
        return rv;
    }
    s = make_js(nats, nc, &js);
    nats->js = js;
    return jr_nats_error(s, 0, e, "JetStream");
}

/* --- again: the library gives up for good when it was refused twice in a row, but credentials come
 * back, and a server that is being set up refuses for a while --- */

static void take_connection(struct jr_nats *nats, natsConnection *nc, jsCtx *js)
{
    struct old_conn *old = jr_xalloc(sizeof *old);

    pthread_mutex_lock(&nats->mu);
    *old = (struct old_conn){nats->old, nats->nc, nats->js};
    nats->old = old;
    nats->nc = nc;
    nats->js = js;
    pthread_mutex_unlock(&nats->mu);
    mark_connected(nats, nc);
}

static bool connect_again(struct jr_nats *nats)
{
    natsConnection *nc = NULL;
    jsCtx *js = NULL;

    atomic_fetch_add(&nats->refs, 1); /* nats.c's, as soon as it connects */
    set_closed(nats, false);
    atomic_store(&nats->asked_ns, jr_loop_now_ns());
    natsStatus s = natsConnection_Connect(&nc, nats->opts);
    if (s == NATS_OK && make_js(nats, nc, &js) == NATS_OK) {
        take_connection(nats, nc, js);
        return true;
    }
    if (s == NATS_OK) { /* it says closed by itself */
        natsConnection_Destroy(nc);
        return false;
    }
    nats_release(nats);
    set_closed(nats, true);
    return false;
}

bool jr_nats_told_add(struct jr_nats_told *t, const char *why)
{
    for (unsigned i = 0; i < t->n; i++)
        if (strncmp(t->v[i], why, sizeof t->v[i] - 1) == 0)
            return false;
    if (t->n == JR_NATS_TOLD_MAX)
        return false;
    (void)jr_str_copy(t->v[t->n++], sizeof t->v[0], why);
    return true;
}

/* The library lends its text without its lock: false when it was written meanwhile, or is none. */
static bool copy_last_error(natsConnection *nc, char *ret, size_t n)
{
    const char *last = NULL;

    natsConnection_GetLastError(nc, &last);
    (void)jr_str_copy(ret, n, last != NULL ? last : "");
    last = NULL;
    natsConnection_GetLastError(nc, &last);
    return last != NULL && ret[0] != '\0' && strncmp(ret, last, n - 1) == 0;
}

/* While it reconnects the library keeps to itself why it cannot: a certificate of another name, say.
 * Servers fail for reasons of their own, in turns: each is told once in an outage. */
static void tell_why(struct jr_nats *nats)
{
    char why[JR_NATS_TOLD_BYTES];

    if (!copy_last_error(nats->nc, why, sizeof why) || atomic_load(&nats->connected) ||
        !jr_nats_told_add(&nats->told, why))
        return;
    atomic_fetch_add(&nats->errors, 1);
    post_event(nats, JR_NATS_ERROR, why);
}

static void wait_while_in_use(struct jr_nats *nats)
{
    while (!nats->closed && !atomic_load(&nats->closing)) {
        const struct timespec until = jr_cond_until(LOOK_MS);

        if (atomic_load(&nats->connected)) {
            nats->told.n = 0;
            pthread_cond_wait(&nats->wake, &nats->mu);
        } else if (pthread_cond_timedwait(&nats->wake, &nats->mu, &until) == ETIMEDOUT) {
            pthread_mutex_unlock(&nats->mu);
            tell_why(nats);
            pthread_mutex_lock(&nats->mu);
        }
    }
}

/* Waits until the connection was given up, then wait_ms; false at the end. */
static bool wait_given_up(struct jr_nats *nats, uint32_t wait_ms)
{
    pthread_mutex_lock(&nats->mu);
    wait_while_in_use(nats);
    const struct timespec until = jr_cond_until(wait_ms);
    while (!atomic_load(&nats->closing) &&
           pthread_cond_timedwait(&nats->wake, &nats->mu, &until) == 0)
        ;
    pthread_mutex_unlock(&nats->mu);
    return !atomic_load(&nats->closing);
}

static void *again_main(void *arg)
{
    struct jr_nats *nats = arg;
    uint32_t wait_ms = AGAIN_FIRST_MS;

    while (wait_given_up(nats, wait_ms)) {
        bool ok = connect_again(nats);
        wait_ms = ok ? AGAIN_FIRST_MS : wait_ms < AGAIN_MOST_MS / 2 ? 2 * wait_ms : AGAIN_MOST_MS;
    }
    return NULL;
}

static int start_again(struct jr_nats *nats)
{
    natsOptions_SetRetryOnFailedConnect(nats->opts, false, NULL, NULL);
    nats->has_again = pthread_create(&nats->again, NULL, again_main, nats) == 0;
    return nats->has_again ? 0 : JR_ENOMEM;
}

int jr_nats_connect(const struct jr_nats_config *config, struct jr_nats **ret, struct jr_errmsg *e)
{
    struct jr_nats *nats = nats_new(config);
    int rv = make_options(nats, config, &nats->opts, e);

    if (rv != 0)
        goto err_after_new;
    rv = open_connection(nats, config->background, e);
    if (rv == 0)
        rv = start_again(nats);
    if (rv != 0)
        goto err_after_new;
    if (!config->background) {
        struct jr_errmsg why = {""};
        /* A user without the right to ask gets no answer: that proves nothing. */
        rv = jr_nats_check_jetstream(nats, &why);
        if (rv == JR_ENOJETSTREAM || rv == JR_ENONATS) {
            jr_errmsg_set(e, rv, "%s", why.text);
            jr_nats_close(nats);
            return rv;
        }
    }
    *ret = nats;
    return 0;

err_after_new:
    if (nats->nc != NULL) {
        jr_nats_close(nats);
        return rv;
    }
    nats_release(nats); /* nats.c never had it */
    nats_release(nats);
    return rv;
}

static void wait_closed(struct jr_nats *nats)
{
    const struct timespec until = jr_cond_until(CLOSE_WAIT_S * 1000);

    pthread_mutex_lock(&nats->mu);
    while (!nats->closed && pthread_cond_timedwait(&nats->closed_cond, &nats->mu, &until) == 0)
        ;
    pthread_mutex_unlock(&nats->mu);
}

static struct dropped_sub *take_dropped(struct jr_nats *nats)
{
    pthread_mutex_lock(&nats->mu);
    struct dropped_sub *all = nats->dropped;
    nats->dropped = NULL;
    pthread_mutex_unlock(&nats->mu);
    return all;
}

static void keep_dropped(struct jr_nats *nats, struct dropped_sub *d)
{
    pthread_mutex_lock(&nats->mu);
    while (d != NULL) {
        struct dropped_sub *next = d->next;
        d->next = nats->dropped;
        nats->dropped = d;
        d = next;
    }
    pthread_mutex_unlock(&nats->mu);
}

static void destroy_dropped(struct dropped_sub *d)
{
    while (d != NULL) {
        struct dropped_sub *next = d->next;
        natsSubscription_Destroy(d->sub);
        jr_xfree(d);
        d = next;
    }
}

/* Before 3.6.1 the reader thread of nats.c finds a message's subscription, lets go of the lock and
 * then uses it, whether it still is or not. It has done so with all that came before once it reads
 * the answer to a ping. Without an answer they are kept, for the next time or the end. */
void jr_nats_drop_sub(struct jr_nats *nats, natsSubscription *sub)
{
    if (sub == NULL)
        return;
    natsSubscription_Unsubscribe(sub);
    struct dropped_sub *d = jr_xalloc(sizeof *d);
    d->sub = sub;
    d->next = take_dropped(nats);
    if (jr_nats_connected(nats) && natsConnection_FlushTimeout(nats->nc, DROP_WAIT_MS) == NATS_OK)
        destroy_dropped(d);
    else
        keep_dropped(nats, d);
}

static void end_again(struct jr_nats *nats)
{
    pthread_mutex_lock(&nats->mu);
    atomic_store(&nats->closing, true);
    pthread_cond_signal(&nats->wake);
    pthread_mutex_unlock(&nats->mu);
    if (nats->has_again)
        pthread_join(nats->again, NULL);
}

void jr_nats_close(struct jr_nats *nats)
{
    if (nats == NULL)
        return;
    end_again(nats);
    natsConnection_Close(nats->nc);
    wait_closed(nats);
    destroy_dropped(take_dropped(nats));
    jsCtx_Destroy(nats->js);
    natsConnection_Destroy(nats->nc);
    while (nats->old != NULL) {
        struct old_conn *old = nats->old;
        nats->old = old->next;
        jsCtx_Destroy(old->js);
        natsConnection_Destroy(old->nc);
        jr_xfree(old);
    }
    nats_release(nats);
}

/* Else some batch, part of a base or chunk of a snapshot would be refused, again and again. */
static int check_payload(const struct jr_nats *nats, struct jr_errmsg *e)
{
    const uint64_t most = jr_nats_max_payload(nats);

    if (most >= JR_NATS_PAYLOAD_MIN)
        return 0;
    return jr_errmsg_set(e, JR_ECONFIG,
                         "the server's max_payload is %llu bytes; it has to be %d at least",
                         (unsigned long long)most, JR_NATS_PAYLOAD_MIN);
}

int jr_nats_check_jetstream(struct jr_nats *nats, struct jr_errmsg *e)
{
    jsAccountInfo *info = NULL;
    jsErrCode code = 0;
    jsOptions jo;
    natsStatus s;

    if (!jr_nats_connected(nats))
        return jr_errmsg_set(e, JR_ENONATS, "not connected to NATS");
    jsOptions_Init(&jo);
    jo.Wait = nats->timeout_ms;
    s = js_GetAccountInfo(&info, nats->js, &jo, &code);
    jsAccountInfo_Destroy(info);
    const int rv = jr_nats_error(s, (int)code, e, "looking for JetStream");
    return rv < 0 ? rv : check_payload(nats, e);
}

bool jr_nats_connected(const struct jr_nats *nats)
{
    return atomic_load(&nats->connected);
}

uint64_t jr_nats_generation(const struct jr_nats *nats)
{
    return atomic_load(&nats->generation);
}

uint64_t jr_nats_max_payload(const struct jr_nats *nats)
{
    int64_t n = natsConnection_GetMaxPayload(nats->nc);

    return n > 0 ? (uint64_t)n : PAYLOAD_DEFAULT;
}

void jr_nats_counters_get(struct jr_nats *nats, struct jr_nats_counters *ret)
{
    natsStatistics *st = NULL;
    uint64_t reconnects = 0;

    *ret = (struct jr_nats_counters){
        .connects = atomic_load(&nats->generation),
        .disconnects = atomic_load(&nats->disconnects),
        .errors = atomic_load(&nats->errors),
    };
    if (natsStatistics_Create(&st) != NATS_OK)
        return;
    if (natsConnection_GetStats(nats->nc, st) == NATS_OK)
        natsStatistics_GetCounts(st, &ret->in_msgs, &ret->in_bytes, &ret->out_msgs, &ret->out_bytes,
                                 &reconnects);
    natsStatistics_Destroy(st);
}

int jr_nats_publish(struct jr_nats *nats, const char *subject, const void *payload, size_t n)
{
    if (!jr_nats_connected(nats))
        return JR_ENONATS;
    if (n > jr_nats_max_payload(nats))
        return JR_EINVAL;
    return jr_nats_error(natsConnection_Publish(nats->nc, subject, payload, (int)n), 0, NULL,
                         "publish");
}
