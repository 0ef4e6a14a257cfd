/* SPDX-License-Identifier: Apache-2.0 */
/* One dp rank: its events and their replays, and the publishing of what they come to. */
#include "app/bridge/bridge_internal.h"

#include "base/cursor.h"
#include "base/limit.h"
#include "base/log.h"
#include "wire/event_codec.h"

#include <sodium.h>
#include <string.h>

static void start_replay(struct jr_bridge_source *s);

static unsigned long long worker_of(const struct jr_bridge_source *s)
{
    return s->bridge->worker_id;
}

static unsigned rank_of(const struct jr_bridge_source *s)
{
    return s->rank.config.dp_rank;
}

/* ---------------------------------------------------------------- publishing */

static void on_failed(struct jr_bridge_flow *f, int err)
{
    struct jr_bridge_source *s = f->source;
    struct jr_bridge_hub *h = s->bridge->hub;
    jr_bridge_rank_failed(f->rank, jr_bridge_now_ms());
    jr_bridge_hub_missing(h, err);
    if (!s->bridge->ended)
        jr_log(JR_LOG_WARN, "bridge.publish_failed", "worker=%llu dp_rank=%u stream=%s error=%s",
               worker_of(s), f->rank->config.dp_rank, h->stream, jr_err_name(err));
}

static void on_ack(void *ctx, int err, const struct jr_pub_ack *ack)
{
    struct jr_bridge_flow *f = ctx;
    struct jr_bridge_source *s = f->source;
    struct jr_bridge *b = s->bridge;
    bool alive = jr_bridge_job_done(b);
    if (err == 0) {
        uint64_t before = s->rank.announced;
        jr_bridge_measure_ack(f);
        jr_bridge_rank_acked(f->rank, ack->seq);
        if (s->rank.announced != before)
            b->lease_at_ms = 0; /* routers credit only the incarnation in the lease */
    } else {
        on_failed(f, err);
    }
    if (alive)
        jr_bridge_source_pump(s);
    jr_bridge_maybe_closed(b);
}

static void pump_flow(struct jr_bridge_flow *f)
{
    struct jr_bridge *b = f->source->bridge;
    struct jr_bridge_hub *h = b->hub;
    struct jr_bridge_out out;
    if (!jr_bridge_rank_next(f->rank, jr_bridge_now_ms(), &out))
        return;
    struct jr_pub pub = {.subject = h->subject, .payload = out.p, .n = out.n, .msg_id = out.msg_id};
    if (h->config.event_json) {
        pub.headers[0] = (struct jr_pub_header){JR_HEADER_INCARNATION, out.incarnation};
        pub.headers[1] = (struct jr_pub_header){JR_HEADER_FIRST_ID, out.first_id};
        if (out.begin[0])
            pub.headers[2] = (struct jr_pub_header){JR_HEADER_BEGIN, out.begin};
    }
    f->sent_at_ns = jr_loop_now_ns();
    int err = jr_js_publish_async(h->publisher, &pub, on_ack, f);
    if (err == 0)
        b->jobs++;
    else
        on_failed(f, err);
}

void jr_bridge_source_pump(struct jr_bridge_source *s)
{
    struct jr_bridge_hub *h = s->bridge->hub;
    if (!h->publisher || s->bridge->ended || !jr_nats_connected(h->config.nats) ||
        jr_bridge_refused(s->bridge)) /* nobody would find its blocks, and they count in the cap */
        return;
    for (uint32_t i = 0; i < s->n_flows; i++)
        pump_flow(&s->flows[i]);
}

bool jr_bridge_source_idle(const struct jr_bridge_source *s)
{
    for (uint32_t i = 0; i < s->n_flows; i++)
        if (!jr_bridge_rank_idle(s->flows[i].rank))
            return false;
    return true;
}

void jr_bridge_source_moved(struct jr_bridge_source *s)
{
    for (uint32_t i = 0; i < s->n_flows; i++)
        s->flows[i].rank->acked_seq = 0;
}

bool jr_bridge_source_has_row(const struct jr_bridge_source *s, uint32_t dp_rank)
{
    for (uint32_t i = 0; i < s->n_flows; i++)
        if (s->flows[i].rank->config.dp_rank == dp_rank)
            return true;
    return false;
}

static bool is_due(const struct jr_bridge_source *s, uint64_t now)
{
    for (uint32_t i = 0; i < s->n_flows; i++)
        if (now >= jr_bridge_rank_deadline_ms(s->flows[i].rank))
            return true;
    return false;
}

void jr_bridge_source_begin(struct jr_bridge_source *s, enum jr_begin_reason reason, bool forget)
{
    jr_log(JR_LOG_INFO, "bridge.begin", "worker=%llu dp_rank=%u reason=%s blocks=%u", worker_of(s),
           rank_of(s), jr_begin_reason_name(reason), forget ? 0 : s->rank.mirror.n);
    jr_bridge_rank_begin(&s->rank, reason, forget);
    jr_bridge_source_pump(s);
}

/* ---------------------------------------------------------------- messages */

static void hold(struct jr_bridge_source *s, struct jr_zmq_msg *m)
{
    m->msg.next = NULL;
    *s->held_tail = &m->msg;
    s->held_tail = &m->msg.next;
}

static struct jr_zmq_msg *held(const struct jr_bridge_source *s)
{
    return (struct jr_zmq_msg *)(void *)s->held_head; /* its first member */
}

static struct jr_zmq_msg *unhold(struct jr_bridge_source *s)
{
    struct jr_zmq_msg *m = held(s);
    if (!m)
        return NULL;
    s->held_head = m->msg.next;
    if (!s->held_head)
        s->held_tail = &s->held_head;
    return m;
}

static void hold_first(struct jr_bridge_source *s, struct jr_zmq_msg *m)
{
    m->msg.next = s->held_head;
    if (!s->held_head)
        s->held_tail = &m->msg.next;
    s->held_head = &m->msg;
}

/* What is held, in order, until a gap that a replay may fill. The window of the subscriber bounds
 * what can be held. */
static void drain(struct jr_bridge_source *s)
{
    struct jr_zmq_msg *m;
    while (!s->replaying && (m = unhold(s))) {
        enum jr_feed_verdict v = jr_bridge_feed_live(&s->feed, m->seq, m->payload, m->n);
        bool may_ask = s->replay_endpoint && s->replay_tries < JR_BRIDGE_REPLAY_TRIES;
        if (v == JR_FEED_GAP && may_ask) {
            hold_first(s, m);
            start_replay(s);
            break;
        }
        if (v == JR_FEED_GAP) {
            jr_bridge_feed_jump(&s->feed, m->seq);
            (void)jr_bridge_feed_live(&s->feed, m->seq, m->payload, m->n);
        }
        s->replay_tries = 0;
        jr_zmq_msg_destroy(m);
    }
    jr_bridge_source_pump(s);
}

static void on_zmq(struct jr_zmq_msg *m, void *ctx)
{
    struct jr_bridge_source *s = ctx;
    s->last_live_ms = jr_bridge_now_ms();
    hold(s, m);
    if (!s->bridge->discovered)
        jr_bridge_engine_heard(s->bridge, s);
    else if (!s->replaying)
        drain(s);
}

/* The first store of the main group: those of others, and parts of blocks, may be smaller. */
static uint32_t stored_size(const struct jr_engine_batch *batch)
{
    struct jr_engine_group group = {0};
    for (uint32_t i = 0; i < batch->n_events; i++) {
        const struct jr_engine_event *ev = &batch->events[i];
        if (ev->type == JR_ENGINE_STORED && ev->n_tokens > 0 &&
            jr_engine_event_is_main(ev, &group) && ev->block_size <= JR_BLOCK_SIZE_MAX)
            return ev->block_size;
    }
    return 0;
}

uint32_t jr_bridge_source_block_size(const struct jr_bridge_source *s)
{
    struct jr_arena arena;
    struct jr_engine_batch batch;
    uint32_t size = 0;
    jr_arena_init(&arena, JR_BRIDGE_PEEK_BYTES);
    for (struct jr_msg *at = s->held_head; at && size == 0; at = at->next) {
        const struct jr_zmq_msg *m = (const struct jr_zmq_msg *)(void *)at;
        jr_arena_reset(&arena);
        if (jr_engine_batch_decode(m->payload, m->n, &arena, &batch, NULL) == 0)
            size = stored_size(&batch);
    }
    jr_arena_deinit(&arena);
    return size;
}

/* ---------------------------------------------------------------- replays */

/* True: it has to be asked again, from the start. */
static bool take_replay(struct jr_bridge_source *s, const struct jr_zmq_replay *replay)
{
    uint64_t restarts = s->feed.counters.restarts;
    for (uint32_t i = 0; i < replay->n; i++) {
        const struct jr_zmq_replay_msg *m = &replay->msgs[i];
        if (jr_bridge_feed_replayed(&s->feed, m->seq, m->payload, m->n))
            return true;
    }
    if (replay->n == 0 && replay->complete)
        jr_bridge_feed_replayed_nothing(&s->feed);
    return replay->n == 0 && s->feed.counters.restarts != restarts;
}

static void start(struct jr_bridge_source *s)
{
    if (s->started)
        return;
    s->started = true;
    jr_bridge_source_begin(s, JR_BEGIN_START, false);
}

static void count_answer(struct jr_bridge_source *s, int err, const struct jr_errmsg *e)
{
    bool good = err == 0;
    s->replays_filled += good;
    s->replays_failed += !good;
    s->unanswered = good ? 0 : s->unanswered + 1;
    s->checked_at_ms = jr_bridge_now_ms();
    if (s->unanswered == 1)
        jr_log(JR_LOG_WARN, "bridge.replay_failed",
               "worker=%llu dp_rank=%u from=%llu error=%s words=\"%s\"", worker_of(s), rank_of(s),
               (unsigned long long)s->asked_next, jr_err_name(err), e->text);
}

static void on_replayed(struct jr_bridge_source *s, int err, const struct jr_zmq_replay *replay)
{
    uint64_t restarts = s->feed.counters.restarts;
    bool again = err == 0 && take_replay(s, replay);
    if (s->feed.counters.restarts != restarts)
        jr_log(JR_LOG_WARN, "bridge.engine_restarted", "worker=%llu dp_rank=%u url=%s",
               worker_of(s), rank_of(s), s->bridge->config.engine_url);
    if (again && s->replay_tries < JR_BRIDGE_REPLAY_TRIES) {
        start_replay(s);
        return;
    }
    start(s);
    drain(s);
    if (!s->replaying)
        s->replay_tries = 0;
}

/* What came live while nobody waited for the answer says more than the answer. */
static bool is_outdated(const struct jr_bridge_source *s)
{
    return s->feed.next != s->asked_next || s->feed.counters.restarts != s->asked_restarts;
}

static void on_answer(void *ctx, int err, struct jr_zmq_replay *replay, const struct jr_errmsg *e)
{
    struct jr_bridge_source *s = ctx;
    bool awaited = s->replaying;
    s->asking = s->replaying = false;
    if (s->bridge->closing)
        return;
    count_answer(s, err, e);
    if (!is_outdated(s))
        on_replayed(s, err, replay);
    else if (awaited)
        start_replay(s);
}

static void ask(struct jr_bridge_source *s)
{
    struct jr_zmq_asker_config config = {.loop = s->bridge->hub->config.loop,
                                         .group = s->bridge->hub->engines,
                                         .endpoint = s->replay_endpoint,
                                         .timeout_ms = JR_BRIDGE_REPLAY_MS,
                                         .idle_ms = JR_BRIDGE_REPLAY_IDLE_MS,
                                         .bytes_max = JR_BRIDGE_REPLAY_BYTES,
                                         .fn = on_answer,
                                         .ctx = s};
    if (!s->asker)
        s->asker = jr_zmq_asker_create(&config);
    s->asking = true;
    s->asked_next = s->feed.next;
    s->asked_restarts = s->feed.counters.restarts;
    jr_zmq_asker_ask(s->asker, jr_bridge_feed_ask(&s->feed));
}

/* Messages wait. The answer to a question that is under way may be what is needed; if not, it is asked
 * again when that has come. */
static void start_replay(struct jr_bridge_source *s)
{
    s->replay_tries++;
    s->replaying = true;
    if (!s->asking)
        ask(s);
}

/* ---------------------------------------------------------------- starting */

/* As with libzmq: a wildcard is for whoever binds; the engine was told to connect then. */
static bool is_wildcard(const char *endpoint)
{
    return strncmp(endpoint, "tcp://*", 7) == 0 || strncmp(endpoint, "tcp://0.0.0.0:", 14) == 0 ||
           strncmp(endpoint, "tcp://[::]:", 11) == 0;
}

void jr_bridge_source_subscribe(struct jr_bridge_source *s)
{
    struct jr_bridge *b = s->bridge;
    struct jr_zmq_sub_config config = {.loop = b->hub->config.loop,
                                       .group = b->hub->engines,
                                       .endpoint = s->kv_endpoint,
                                       .bind = b->config.kv_bind || is_wildcard(s->kv_endpoint),
                                       .on_msg = on_zmq,
                                       .ctx = s};
    struct jr_errmsg e = {0};
    uint64_t now = jr_bridge_now_ms();
    if (s->sub || now < b->subscribe_at_ms)
        return;
    int err = jr_zmq_sub_create(&config, &s->sub, &e);
    if (err == 0)
        return;
    s->sub = NULL;
    b->subscribe_at_ms = now + JR_BRIDGE_SUBSCRIBE_MS;
    jr_log(JR_LOG_ERROR, "bridge.subscribe_failed", "endpoint=%s error=%s words=\"%s\"",
           config.endpoint, jr_err_name(err), e.text);
    if (b->config.on_fatal)
        b->config.on_fatal(b->config.ctx, err, e.text);
}

void jr_bridge_source_discovered(struct jr_bridge_source *s, uint32_t block_size)
{
    bool other_size = s->feed.block_size != block_size;
    if (s->started && (other_size || !s->replay_endpoint)) {
        /* Nothing proves that it is the engine it was. */
        jr_bridge_feed_restart(&s->feed);
    }
    s->feed.block_size = block_size;
    jr_bridge_source_subscribe(s);
    if (s->replaying)
        return;
    if (s->replay_endpoint) {
        start_replay(s);
        return;
    }
    start(s);
    drain(s);
}

/* The last message may have been lost with none behind it to betray it, and a restarted engine may
 * be silent: look whether the end of its history is ours. An engine that idles may lose the one
 * message it has sent for minutes, so the silence's length says nothing of the need to look. */
static bool check_is_due(const struct jr_bridge_source *s, uint64_t now)
{
    uint32_t doublings =
        s->unanswered < JR_BRIDGE_CHECK_BACKOFF ? s->unanswered : JR_BRIDGE_CHECK_BACKOFF;
    if (!s->started || !s->bridge->healthy || s->asking || !s->replay_endpoint ||
        now - s->last_live_ms < JR_BRIDGE_IDLE_CHECK_MS)
        return false;
    const uint64_t every_ms = s->bridge->hub->check_every_ms;
    return s->checked_at_ms < s->last_live_ms ||
           (doublings > 0 ? now - s->checked_at_ms >= every_ms << doublings
                          : jr_turn_is_due(s->turn, every_ms, s->checked_at_ms, now));
}

void jr_bridge_source_tick(struct jr_bridge_source *s, uint64_t now)
{
    if (is_due(s, now))
        jr_bridge_source_pump(s);
    if (s->bridge->closing)
        return;
    if (s->started)
        jr_bridge_source_subscribe(s); /* where it failed */
    if (check_is_due(s, now))
        ask(s); /* messages do not wait for the answer: it is no gap yet */
}

void jr_bridge_source_stop(struct jr_bridge_source *s)
{
    struct jr_zmq_msg *m;
    while ((m = unhold(s)))
        jr_zmq_msg_destroy(m);
}

/* ---------------------------------------------------------------- life */

/* The endpoint of rank i: as engines do it, i ports further. NULL: it has no port to count. */
static char *endpoint_of(const char *base, uint32_t i)
{
    const char *colon = strrchr(base, ':');
    uint64_t port;
    if (i == 0)
        return jr_xstrdup(base);
    if (strncmp(base, "tcp://", 6) != 0 || jr_parse_u64(colon + 1, strlen(colon + 1), &port) < 0 ||
        port + i > UINT16_MAX)
        return NULL;
    return jr_xprintf("%.*s:%llu", (int)(colon - base), base, (unsigned long long)port + i);
}

static void add_flow(struct jr_bridge_source *s, struct jr_bridge_rank *rank)
{
    s->flows[s->n_flows++] = (struct jr_bridge_flow){.source = s, .rank = rank};
}

/* Before the feed, which tells it. */
static void add_lower(struct jr_bridge_source *s)
{
    s->lower = jr_xalloc(sizeof *s->lower);
    jr_bridge_lower_init(s->lower, &s->rank);
    for (int i = 0; i < JR_LOWERS; i++)
        add_flow(s, &s->lower->rows[i]);
}

static struct jr_bridge_source *make(struct jr_bridge *b, uint32_t i)
{
    struct jr_bridge_source *s = jr_xalloc(sizeof *s);
    struct jr_bridge_rank_config rank = {.worker_id = b->worker_id,
                                         .dp_rank = b->config.dp_rank + i,
                                         .json = b->hub->config.event_json};
    randombytes_buf(rank.seed, sizeof rank.seed);
    s->bridge = b;
    s->turn = b->hub->rank_turns++;
    s->held_tail = &s->held_head;
    s->kv_endpoint = endpoint_of(b->config.kv_endpoint, i);
    if (b->config.replay_endpoint)
        s->replay_endpoint = endpoint_of(b->config.replay_endpoint, i);
    jr_bridge_rank_init(&s->rank, &rank);
    s->rank.mirror.plain_set = b->config.plain_set;
    add_flow(s, &s->rank);
    if (b->hub->config.lower_media && rank.dp_rank < JR_LOWER_STEP)
        add_lower(s);
    jr_bridge_feed_init(&s->feed, &s->rank, 0);
    s->feed.lower = s->lower;
    return s;
}

void jr_bridge_source_free(struct jr_bridge_source *s)
{
    jr_bridge_feed_deinit(&s->feed);
    if (s->lower)
        jr_bridge_lower_deinit(s->lower);
    jr_xfree(s->lower);
    jr_bridge_rank_deinit(&s->rank);
    jr_xfree(s->kv_endpoint);
    jr_xfree(s->replay_endpoint);
    jr_xfree(s);
}

bool jr_bridge_sources_make(struct jr_bridge *b, uint32_t n)
{
    if (n > JR_RANKS_INLINE) {
        jr_limit_reached(JR_LIMIT_RANKS_INLINE);
        return false;
    }
    if (b->config.dp_rank + n > JR_RANKS_MAX) /* no event of theirs could be told */
        return false;
    while (b->n_sources < n) {
        struct jr_bridge_source *s = make(b, b->n_sources);
        bool missing = !s->kv_endpoint || (b->config.replay_endpoint && !s->replay_endpoint);
        if (missing) {
            jr_bridge_source_free(s);
            return false;
        }
        b->sources[b->n_sources++] = s;
    }
    return true;
}
