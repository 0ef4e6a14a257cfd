/* SPDX-License-Identifier: Apache-2.0 */
#include "app/driver/driver_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "wire/lease_json.h"

#include <string.h>

uint64_t jr_driver_now_ms(void)
{
    return jr_loop_now_ns() / 1000000;
}

/* ---------------------------------------------------------------- jobs */

bool jr_driver_submit(struct jr_driver *d, struct jr_lane *lane, struct jr_job *job)
{
    if (d->closing || jr_lane_submit(lane, job) < 0)
        return false;
    d->jobs++;
    return true;
}

bool jr_driver_job_done(struct jr_driver *d)
{
    d->jobs--;
    return !d->closing;
}

/* ---------------------------------------------------------------- actions */

/* Does the worker answer? Only the status counts; the body is let pass. */
struct probe {
    struct jr_list node;
    struct jr_driver *d;
    uint64_t worker_id;
    struct jr_http_exchange *exchange;
    int status;
};

static void on_probe_head(void *ctx, const struct jr_http_reply *reply)
{
    struct probe *p = ctx;
    p->status = reply->status;
}

static void on_probe_end(void *ctx, int err)
{
    struct probe *p = ctx;
    struct jr_driver *d = p->d;
    struct jr_event ev = {.type = JR_EV_PROBED};
    ev.u.probed.worker_id = p->worker_id;
    ev.u.probed.healthy = err == 0 && p->status == 200;
    ev.u.probed.late = err == JR_ETIMEOUT;
    jr_list_remove(&p->node);
    jr_xfree(p);
    if (err != JR_ELIMIT) /* else this process has no descriptor: that says nothing of the worker */
        jr_driver_step(d, &ev);
}

static void probe(struct jr_driver *d, uint64_t worker_id, const char *url)
{
    char health[JR_URL_MAX + 16];
    snprintf(health, sizeof health, "%s/health", url);
    struct probe *p = jr_xalloc(sizeof *p);
    *p = (struct probe){.d = d, .worker_id = worker_id};
    struct jr_http_fetch fetch = {.url = health,
                                  .method = "GET",
                                  .first_byte_timeout_ms = 2000,
                                  .total_timeout_ms = 3000,
                                  .on_head = on_probe_head,
                                  .on_end = on_probe_end,
                                  .ctx = p};
    jr_list_push_back(&d->probes, &p->node);
    if (jr_http_client_fetch(d->config.client, &fetch, &p->exchange) == 0)
        return;
    jr_list_remove(&p->node);
    jr_xfree(p);
}

/* A worker that does not answer must not hold up the end. */
static void cancel_probes(struct jr_driver *d)
{
    JR_LIST_FOREACH_SAFE (it, &d->probes) {
        struct probe *p = JR_CONTAINER_OF(it, struct probe, node);
        jr_http_exchange_cancel(p->exchange);
        jr_list_remove(&p->node);
        jr_xfree(p);
    }
}

static void reannounce(struct jr_driver *d, uint64_t worker_id, uint32_t dp_rank)
{
    char key[64];
    snprintf(key, sizeof key, "reannounce.%llu.%u", (unsigned long long)worker_id, dp_rank);
    jr_driver_put_state(d, key, "1", true);
}

static void say_epoch(struct jr_driver *d, const struct jr_epoch *epoch)
{
    struct jr_buf b;
    jr_buf_init(&b, JR_NAME_MAX);
    int err = jr_lease_encode_epoch(epoch, &b);
    jr_buf_u8(&b, 0);
    if (err == 0 && !b.err)
        jr_driver_put_state(d, "epoch", (const char *)b.p, false);
    else
        jr_log(JR_LOG_ERROR, "epoch.not_said", "error=%s", jr_err_name(err));
    jr_buf_deinit(&b);
}

static void on_ready(struct jr_driver *d, bool ready)
{
    struct jr_pool_view v;
    jr_pool_view(d->pool, &v);
    if (ready && !d->was_ready) {
        d->was_ready = true;
        d->stats.applied_seq_at_ready = v.applied_seq;
    }
    jr_log(JR_LOG_INFO, "pool.ready", "component=%s ready=%d state=%s applied=%llu entries=%llu",
           d->config.pool.component, ready, v.recovery_state, (unsigned long long)v.applied_seq,
           (unsigned long long)v.entries);
}

static void perform(struct jr_driver *d, struct jr_action *a)
{
    switch (a->type) {
    case JR_ACT_TAKE_LEASE:
        jr_driver_take_lease(d);
        return;
    case JR_ACT_STREAM_INFO:
        jr_driver_stream_info(d, a->u.seq);
        return;
    case JR_ACT_LOAD_SNAPSHOT:
        jr_driver_load_snapshot(d, a->u.load.skip, a->u.load.dynamo);
        return;
    case JR_ACT_START_READER:
        jr_driver_start_reader(d, a);
        return;
    case JR_ACT_STOP_READER:
        jr_driver_stop_reader(d);
        return;
    case JR_ACT_WRITE_SNAPSHOT:
        jr_driver_write_snapshot(d, a->u.write.image, a->u.write.object);
        return;
    case JR_ACT_RECORD_SNAPSHOT:
        jr_driver_record_snapshot(d, &a->u.record);
        return;
    case JR_ACT_PURGE:
        jr_driver_purge(d, a->u.seq);
        return;
    case JR_ACT_PUBLISH_CONTROL:
        jr_driver_publish_control(d, a);
        return;
    case JR_ACT_PUBLISH_SYNC:
        jr_driver_publish_sync(d, &a->u.sync);
        return;
    case JR_ACT_TELL_SESSION:
        jr_driver_tell_session(d, &a->u.session);
        return;
    case JR_ACT_REANNOUNCE:
        reannounce(d, a->u.rank.worker_id, a->u.rank.dp_rank);
        return;
    case JR_ACT_PROBE:
        probe(d, a->u.probe.worker_id, a->u.probe.url);
        return;
    case JR_ACT_EPOCH:
        say_epoch(d, &a->u.epoch.epoch);
        return;
    case JR_ACT_READY:
        on_ready(d, a->u.ready);
        return;
    case JR_ACT_DECIDE:
    case JR_ACT_REJECT:
        return; /* answered below, when all else is done */
    }
    JR_IMPOSSIBLE("unknown action");
}

static bool take_wait(struct jr_driver *d, uint64_t id, struct jr_driver_route_wait *ret)
{
    uint64_t at;
    if (!jr_map_del(&d->wait_at, id, &at))
        return false;
    *ret = d->waits.v[at];
    const struct jr_driver_route_wait *last = &d->waits.v[--d->waits.n];
    d->waits.v[at] = *last;
    if (at < d->waits.n) /* it is in the map: nothing is allocated, nothing can fail */
        JR_ASSERT(jr_map_put(&d->wait_at, last->id, at) == 0);
    return true;
}

static void answer(struct jr_driver *d, const struct jr_driver_answer *a)
{
    struct jr_driver_route_wait w;
    d->refusal = a->limit;
    if (take_wait(d, a->id, &w))
        w.fn(w.ctx, a->err < 0 ? NULL : &a->decision, a->err, a->why);
}

static void keep_answer(struct jr_driver *d, const struct jr_action *a)
{
    struct jr_driver_answer x = {.why = ""};
    if (a->type == JR_ACT_DECIDE) {
        x.decision = a->u.decide;
        x.id = a->u.decide.id;
    } else {
        x.id = a->u.reject.id;
        x.err = a->u.reject.err;
        x.why = a->u.reject.why;
        x.limit = a->u.reject.limit;
    }
    if (jr_arr_reserve(&d->waits_mem, &d->answers, 1, JR_REQUESTS_MAX) == 0)
        d->answers.v[d->answers.n++] = x;
    else
        answer(d, &x);
}

/* A callback may ask for further steps, which may answer further requests that waited: these are
 * called from here, too, so that a long queue whose workers all fail is no deep stack. */
static void give_answers(struct jr_driver *d)
{
    while (d->answered < d->answers.n) {
        struct jr_driver_answer x = d->answers.v[d->answered++];
        answer(d, &x);
    }
    d->answered = d->answers.n = 0;
}

static void rearm(struct jr_driver *d)
{
    uint64_t at = jr_pool_deadline_ms(d->pool);
    if (at != d->armed_ms) { /* a replay makes a million steps and moves it seldom */
        uint64_t now = jr_driver_now_ms();
        jr_timer_start(d->tick, at > now ? at - now : 0, 0);
        d->armed_ms = at;
    }
    if (jr_pool_has_slices(d->pool))
        jr_idler_start(d->idler);
}

static void run_actions(struct jr_driver *d, struct jr_actions *acts)
{
    for (uint32_t i = 0; i < acts->n; i++) {
        struct jr_action *a = &acts->v[i];
        if (a->type == JR_ACT_DECIDE || a->type == JR_ACT_REJECT)
            keep_answer(d, a);
        else
            perform(d, a);
    }
    if (d->depth == 1) /* all of this step is performed */
        give_answers(d);
}

static void on_matched(void *ctx)
{
    struct jr_driver *d = ctx;
    if (d->matched_ns == 0)
        d->matched_ns = jr_loop_now_ns();
}

static void measure(struct jr_driver *d, enum jr_event_type type, uint64_t before)
{
    uint64_t took = jr_loop_now_ns() - before;
    if (took / 1000 > d->stats.step_max_us)
        d->stats.step_max_us = took / 1000;
    if (type == JR_EV_ROUTE && d->config.on_route)
        d->config.on_route(d->config.ctx, d->config.pool.component,
                           d->matched_ns ? d->matched_ns - before : 0, took);
}

void jr_driver_step(struct jr_driver *d, struct jr_event *ev)
{
    if (d->closing)
        return;
    const uint64_t before = jr_loop_now_ns();
    ev->now_ms = before / 1000000;
    ev->unix_ns = jr_unix_ns();
    struct jr_actions inner = {0};
    struct jr_actions *acts = d->depth ? &inner : &d->actions;
    d->depth++;
    d->matched_ns = 0;
    int err = jr_pool_step(d->pool, ev, acts);
    measure(d, ev->type, before);
    if (err < 0)
        jr_log(JR_LOG_ERROR, "pool.step_failed", "event_type=%d error=%s", (int)ev->type,
               jr_err_name(err));
    run_actions(d, acts); /* what was laid before the memory ended counts on being performed */
    d->step_err = err;
    d->depth--;
    jr_actions_deinit(&inner, d->pool);
    if (d->depth > 0 || d->closing)
        return;
    if (d->sync_failed) {
        d->sync_failed = false;
        struct jr_event failed = {.type = JR_EV_SYNC_FAILED};
        jr_driver_step(d, &failed);
    }
    rearm(d);
}

static void on_tick(void *ctx)
{
    struct jr_driver *d = ctx;
    struct jr_event ev = {.type = JR_EV_TICK};
    d->armed_ms = 0;
    jr_driver_step(d, &ev);
}

/* By time: how long so many entries take depends on where they lie in memory. Half a slice, as the
 * mailbox has its own in the same turn. */
static bool on_idle(void *ctx)
{
    struct jr_driver *d = ctx;
    const uint64_t until = jr_loop_now_ns() + (uint64_t)JR_LOOP_SLICE_US * 1000 / 2;
    while (jr_pool_has_slices(d->pool)) {
        struct jr_event ev = {.type = JR_EV_SLICE};
        ev.u.slice.max = JR_DRIVER_SLICE;
        jr_driver_step(d, &ev);
        if (d->closing || jr_loop_now_ns() >= until)
            break;
    }
    return jr_pool_has_slices(d->pool);
}

/* ---------------------------------------------------------------- requests */

const struct jr_queue_refusal *jr_driver_refusal(const struct jr_driver *d)
{
    return d->refusal.policy_class ? &d->refusal : NULL;
}

uint64_t jr_driver_request_id(struct jr_driver *d)
{
    return ++d->last_id;
}

int jr_driver_route(struct jr_driver *d, const struct jr_route *route, jr_driver_decided_fn *fn,
                    void *ctx)
{
    int err = jr_arr_reserve(&d->waits_mem, &d->waits, 1, JR_REQUESTS_MAX);
    if (err == 0)
        err = jr_map_put(&d->wait_at, route->id, d->waits.n);
    if (err < 0)
        return err;
    d->waits.v[d->waits.n++] = (struct jr_driver_route_wait){route->id, fn, ctx};
    struct jr_event ev = {.type = JR_EV_ROUTE};
    ev.u.route = *route;
    jr_driver_step(d, &ev);
    /* Unanswered after a step that failed: nobody would ever answer it. */
    struct jr_driver_route_wait w;
    return d->step_err < 0 && take_wait(d, route->id, &w) ? d->step_err : 0;
}

static void request_event(struct jr_driver *d, enum jr_event_type type, uint64_t id, uint32_t n)
{
    struct jr_event ev = {.type = type};
    ev.u.request.id = id;
    ev.u.request.output_tokens = n;
    jr_driver_step(d, &ev);
}

void jr_driver_first_token(struct jr_driver *d, uint64_t id)
{
    request_event(d, JR_EV_FIRST_TOKEN, id, 0);
}

void jr_driver_output(struct jr_driver *d, uint64_t id, uint32_t output_tokens)
{
    request_event(d, JR_EV_OUTPUT, id, output_tokens);
}

void jr_driver_finish(struct jr_driver *d, uint64_t id)
{
    struct jr_driver_route_wait w;
    (void)take_wait(d, id, &w);
    request_event(d, JR_EV_FINISH, id, 0);
}

bool jr_driver_is_waiting(const struct jr_driver *d, uint64_t id)
{
    uint64_t at;
    return jr_map_get(&d->wait_at, id, &at);
}

int jr_driver_outside(struct jr_driver *d, uint64_t id, bool done)
{
    struct jr_event ev = {.type = JR_EV_OUTSIDE};
    ev.u.outside.id = id;
    ev.u.outside.done = done;
    jr_driver_step(d, &ev);
    return d->step_err;
}

/* ---------------------------------------------------------------- administration */

struct jr_pool *jr_driver_pool(struct jr_driver *d)
{
    return d->pool;
}

bool jr_driver_ready(const struct jr_driver *d)
{
    struct jr_pool_view v;
    jr_pool_view(d->pool, &v);
    return v.ready && !d->draining;
}

const char *jr_driver_stream(const struct jr_driver *d)
{
    return d->stream;
}

const char *jr_driver_open_failed(const struct jr_driver *d)
{
    return d->open_failed.words.text;
}

void jr_driver_admin_snapshot(struct jr_driver *d)
{
    struct jr_event ev = {.type = JR_EV_ADMIN_SNAPSHOT};
    jr_driver_step(d, &ev);
}

void jr_driver_admin_reset(struct jr_driver *d, const char *token)
{
    struct jr_event ev = {.type = JR_EV_ADMIN_RESET};
    (void)jr_str_copy(ev.u.token, sizeof ev.u.token, token);
    jr_driver_step(d, &ev);
}

void jr_driver_tail(struct jr_driver *d, bool on)
{
    d->tail = on;
}

void jr_driver_drain(struct jr_driver *d)
{
    d->draining = true;
}

void jr_driver_stats(const struct jr_driver *d, struct jr_driver_stats *ret)
{
    *ret = d->stats;
}

void jr_driver_nats(struct jr_driver *d, bool connected)
{
    if (!d->nats || d->closing)
        return;
    if (connected) {
        jr_driver_open(d);
        return;
    }
    jr_timer_stop(d->open_retry);
    d->missing = false;
    jr_retold_over(&d->open_failed);
    jr_driver_not_leader(d);
    if (!d->connected)
        return;
    d->connected = false;
    struct jr_event ev = {.type = JR_EV_NATS};
    jr_driver_step(d, &ev);
}

int jr_driver_add_static(struct jr_driver *d, const struct jr_worker_lease *leases, uint32_t n)
{
    struct jr_event ev = {.type = JR_EV_MEMBERS};
    ev.u.members.workers = leases;
    ev.u.members.n_workers = n;
    ev.u.members.is_static = true;
    jr_driver_step(d, &ev);
    return 0;
}

/* ---------------------------------------------------------------- life */

/* The pool's records become log lines. */
static void on_trace(void *ctx, enum jr_trace_level level, const char *event, const char *text)
{
    const struct jr_driver *d = ctx;
    static const enum jr_log_level levels[] = {JR_LOG_DEBUG, JR_LOG_INFO, JR_LOG_WARN,
                                               JR_LOG_ERROR};
    jr_log(levels[level], event, "component=%s %s", d->config.pool.component, text);
}

static int name_streams(struct jr_driver *d)
{
    const struct {
        enum jr_stream_kind kind;
        char *dst;
    } names[] = {
        {JR_STREAM_EVENTS, d->stream},
        {JR_STREAM_SYNC, d->sync_stream},
        {JR_STREAM_SESSIONS, d->sessions_stream},
        {JR_STREAM_LEASES, d->leases_bucket},
        {JR_STREAM_STATE, d->state_bucket},
        {JR_STREAM_SNAPSHOTS, d->snapshots_bucket},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int err = jr_stream_name(names[i].kind, d->config.pool.namespace_, d->config.pool.component,
                                 names[i].dst);
        if (err < 0)
            return err;
    }
    return 0;
}

static void on_open_retry(void *ctx)
{
    struct jr_driver *d = ctx;
    d->missing = false;
    jr_driver_open(d);
}

static int start_nats_side(struct jr_driver *d)
{
    int err = name_streams(d);
    const struct {
        const char *name;
        struct jr_lane **lane;
    } lanes[] = {
        {"jr-lease", &d->lease_lane}, {"jr-control", &d->control_lane}, {"jr-bulk", &d->bulk_lane}};
    for (size_t i = 0; err == 0 && i < sizeof lanes / sizeof *lanes; i++)
        err = jr_lane_create(d->loop, lanes[i].name, JR_DRIVER_LANE_DEPTH, lanes[i].lane);
    if (err < 0)
        return err;
    err = jr_driver_compat_start(d);
    if (err < 0)
        return err;
    d->open_retry = jr_timer_create(d->loop, on_open_retry, d);
    jr_driver_members_start(d);
    return 0;
}

static void free_driver(struct jr_driver *d)
{
    jr_timer_destroy(d->tick);
    jr_timer_destroy(d->open_retry);
    jr_timer_destroy(d->round_timer);
    jr_timer_destroy(d->leave_timer);
    jr_idler_destroy(d->idler);
    jr_js_kv_destroy(d->leases);
    jr_js_kv_destroy(d->state);
    jr_object_store_destroy(d->store);
    if (d->pool) {
        jr_actions_deinit(&d->actions, d->pool);
        jr_pool_destroy(d->pool);
    }
    jr_map_deinit(&d->wait_at);
    jr_arr_free(&d->waits_mem, &d->waits);
    jr_arr_free(&d->waits_mem, &d->answers);
    jr_xfree(d);
}

int jr_driver_create(const struct jr_driver_config *config, struct jr_driver **ret,
                     struct jr_errmsg *e)
{
    struct jr_driver *d = jr_xalloc(sizeof *d);
    d->config = *config;
    d->loop = config->loop;
    d->nats = config->nats;
    jr_list_init(&d->probes);
    d->incarnation = config->pool.incarnation;
    jr_mem_init(&d->waits_mem);
    jr_map_init(&d->wait_at, &d->waits_mem);
    struct jr_trace trace = {on_trace, d};
    d->config.pool.on_matched = d->config.on_route ? on_matched : NULL;
    d->config.pool.matched_ctx = d;
    int err = jr_pool_create(&d->config.pool, &trace, &d->pool);
    if (err == 0) {
        d->tick = jr_timer_create(d->loop, on_tick, d);
        d->idler = jr_idler_create(d->loop, on_idle, d);
        if (d->nats)
            err = start_nats_side(d);
    }
    if (err < 0) {
        jr_lane_destroy(d->lease_lane);
        jr_lane_destroy(d->control_lane);
        jr_lane_destroy(d->bulk_lane);
        jr_driver_compat_stop(d);
        free_driver(d);
        return jr_errmsg_set(e, err, "cannot start the pool %s: %s", config->pool.component,
                             jr_err_text(err));
    }
    jr_timer_start(d->tick, 0, 0);
    *ret = d;
    return 0;
}

static void on_closed_part(void *ctx)
{
    struct jr_driver *d = ctx;
    d->closings--;
    jr_driver_maybe_closed(d);
}

/* Readers, publisher and lanes have all ended: the last of them frees. */
void jr_driver_maybe_closed(struct jr_driver *d)
{
    if (!d->closing || d->closings || d->jobs)
        return;
    void (*cb)(void *ctx) = d->close_cb;
    void *ctx = d->close_ctx;
    free_driver(d);
    if (cb)
        cb(ctx);
}

static void close_part(struct jr_driver *d, struct jr_js_reader *reader)
{
    if (!reader)
        return;
    d->closings++;
    jr_js_reader_close(reader, on_closed_part, d);
}

static void close_publisher(struct jr_driver *d, struct jr_js_publisher *publisher)
{
    if (!publisher)
        return;
    d->closings++;
    jr_js_publisher_close(publisher, on_closed_part, d);
}

void jr_driver_close_rest(struct jr_driver *d)
{
    d->closing = true;
    cancel_probes(d);
    d->closings++; /* ours: nothing is freed before this function is through */
    jr_timer_stop(d->tick);
    jr_driver_stop_reader(d);
    close_part(d, d->sync_reader);
    close_part(d, d->sessions_reader);
    d->closings++;
    jr_driver_busy_stop(d, on_closed_part, d);
    close_publisher(d, d->publisher);
    close_publisher(d, d->session_publisher);
    /* Waits for the job under way (at most a request time-out of NATS); done runs in here. */
    jr_lane_destroy(d->lease_lane);
    jr_lane_destroy(d->control_lane);
    jr_lane_destroy(d->bulk_lane);
    jr_driver_compat_stop(d);
    on_closed_part(d);
}

void jr_driver_close(struct jr_driver *d, void (*cb)(void *ctx), void *ctx)
{
    JR_ASSERT(!d->closing && d->depth == 0);
    d->close_cb = cb;
    d->close_ctx = ctx;
    if (d->nats)
        jr_driver_leave(d);
    else
        jr_driver_close_rest(d);
}
