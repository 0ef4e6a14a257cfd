/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/front_threads.h"

#include "app/frontend/frontend_internal.h"
#include "app/frontend/span_export.h"
#include "base/assert.h"
#include "io/tls.h"

#include <pthread.h>

#define LOOK_MS 20 /* whether what was asked for has come about */

enum word { WORD_RETIRE, WORD_DRAIN, WORD_TLS, WORD_STOP };

/* To a loop, by message. */
struct order {
    struct jr_msg msg;
    struct jr_front_loop *l;
    enum word word;
    struct jr_tls_context *tls;
};

/* ---------------------------------------------------------------- on their threads */

/* All that other loops may still send here has come: tickets and requests that are away are closed
 * by their last messages. */
static bool has_ended(const struct jr_front_loop *l)
{
    return l->stopping && l->closings == 0 && l->n_tickets == 0 && l->n_away == 0;
}

static void on_ended(struct jr_msg *msg);

static void on_look(void *ctx)
{
    struct jr_front_loop *l = ctx;
    if (!l->stopping) {
        bool idle = atomic_load(&l->inflight) == 0 && jr_http_server_busy(l->server) == 0;
        atomic_store(&l->idle, idle);
    } else if (has_ended(l)) {
        jr_timer_destroy(l->look);
        l->ended.deliver = on_ended;
        jr_loop_stop(l->loop);
    }
}

static void on_part_closed(void *ctx)
{
    struct jr_front_loop *l = ctx;
    l->closings--;
}

static void on_flushed(void *ctx)
{
    struct jr_front_loop *l = ctx;
    jr_http_client_close(l->client, on_part_closed, l);
}

static void stop_here(struct jr_front_loop *l)
{
    l->stopping = true;
    l->closings = 2;
    jr_proxy_abort_all(l);
    jr_http_server_close(l->server, on_part_closed, l);
    if (l->exporter) /* by the client */
        jr_span_export_close(l->exporter, on_flushed, l);
    else
        on_flushed(l);
    jr_timer_start(l->look, 1, LOOK_MS);
}

static void on_order(struct jr_msg *msg)
{
    struct order *o = JR_CONTAINER_OF(msg, struct order, msg);
    struct jr_front_loop *l = o->l;
    switch (o->word) {
    case WORD_RETIRE:
        jr_http_server_retire(l->server);
        break;
    case WORD_DRAIN:
        jr_http_server_drain(l->server);
        jr_timer_start(l->look, 0, LOOK_MS);
        break;
    case WORD_TLS:
        jr_http_server_set_tls(l->server, o->tls);
        break;
    case WORD_STOP:
        stop_here(l);
        break;
    }
    jr_xfree(o);
}

static void *run(void *arg)
{
    struct jr_front_loop *l = arg;
    jr_loop_run(l->loop);
    jr_loop_post(l->f->loop, &l->ended); /* the last of its messages */
    return NULL;
}

/* ---------------------------------------------------------------- main loop */

static void tell(struct jr_front_loop *l, enum word word, struct jr_tls_context *tls)
{
    struct order *o = jr_xalloc(sizeof *o);
    *o = (struct order){.msg = {.deliver = on_order}, .l = l, .word = word, .tls = tls};
    jr_loop_post(l->loop, &o->msg);
}

static void tell_all(struct jr_frontend *f, enum word word)
{
    for (uint32_t i = 0; i < f->n_others; i++)
        if (!f->others[i].told_to_stop) /* it may not live to hear */
            tell(&f->others[i], word, NULL);
}

int jr_front_threads_make(struct jr_frontend *f, uint16_t port, struct jr_errmsg *e)
{
    const uint32_t n = jr_config_u32(f->cfg, JR_CFG_HTTP_THREADS) - 1;
    int err = 0;
    if (n == 0)
        return 0;
    f->others = jr_xalloc(n * sizeof *f->others);
    for (uint32_t i = 0; err == 0 && i < n; i++) {
        struct jr_front_loop *l = &f->others[i];
        f->n_others++; /* also one that was made by half is closed again */
        err = jr_front_loop_init(l, f, i + 1, e);
        if (l->loop)
            l->look = jr_timer_create(l->loop, on_look, l);
        if (err == 0)
            err = jr_front_loop_listen(l, port, e);
    }
    return err;
}

int jr_front_threads_start(struct jr_frontend *f, struct jr_errmsg *e)
{
    for (uint32_t i = 0; i < f->n_others; i++) {
        struct jr_front_loop *l = &f->others[i];
        pthread_t thread;
        if (pthread_create(&thread, NULL, run, l) != 0)
            return jr_errmsg_set(e, JR_EIO, "--http-threads: the system gives no thread %u", i + 2);
        l->thread = thread;
        l->started = true;
    }
    return 0;
}

void jr_front_threads_retire(struct jr_frontend *f)
{
    tell_all(f, WORD_RETIRE);
}

void jr_front_threads_drain(struct jr_frontend *f)
{
    tell_all(f, WORD_DRAIN);
}

bool jr_front_threads_idle(const struct jr_frontend *f)
{
    for (uint32_t i = 0; i < f->n_others; i++)
        if (!atomic_load(&f->others[i].idle))
            return false;
    return true;
}

void jr_front_threads_set_tls(struct jr_frontend *f, struct jr_tls_context **ctxs)
{
    for (uint32_t i = 0; i < f->n_others; i++) {
        struct jr_front_loop *l = &f->others[i];
        if (l->told_to_stop)
            jr_tls_context_destroy(ctxs[i]);
        else if (l->started)
            tell(l, WORD_TLS, ctxs[i]);
        else /* before its first connection */
            jr_http_server_set_tls(l->server, ctxs[i]);
    }
}

static void maybe_done(struct jr_frontend *f)
{
    void (*done)(struct jr_frontend * f) = f->others_done;
    if (f->n_running > 0)
        return;
    for (uint32_t i = 0; i < f->n_others; i++)
        jr_front_loop_deinit(&f->others[i]);
    f->n_others = 0;
    jr_xfree(f->others);
    f->others = NULL;
    f->others_done = NULL;
    done(f);
}

static void on_ended(struct jr_msg *msg)
{
    struct jr_front_loop *l = JR_CONTAINER_OF(msg, struct jr_front_loop, ended);
    pthread_join(l->thread, NULL); /* it has nothing left to do */
    l->f->n_running--;
    maybe_done(l->f);
}

/* One whose thread never ran. */
static void end_unstarted(struct jr_front_loop *l)
{
    if (!l->loop)
        return;
    jr_http_server_close(l->server, NULL, NULL);
    if (l->client)
        jr_http_client_close(l->client, NULL, NULL);
}

void jr_front_threads_stop(struct jr_frontend *f, void (*done)(struct jr_frontend *f))
{
    JR_ASSERT(!f->others_done);
    f->others_done = done;
    f->n_running = 0;
    for (uint32_t i = 0; i < f->n_others; i++) {
        struct jr_front_loop *l = &f->others[i];
        if (l->started) {
            f->n_running++;
            l->told_to_stop = true;
            tell(l, WORD_STOP, NULL);
        } else {
            end_unstarted(l);
        }
    }
    maybe_done(f);
}
