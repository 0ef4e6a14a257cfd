/* SPDX-License-Identifier: Apache-2.0 */
/* A request's way through the pool: choice, booking, progress, end. pool_weigh.c has what goes
 * before. */
#include "core/pool_internal.h"

#include <math.h>
#include <string.h>

static int choose(struct jr_pool *p, const struct jr_route *r, uint32_t *ret)
{
    struct jr_candidate *c = p->candidates.v;
    uint32_t n = p->candidates.n;
    uint64_t last = r->n_prefix ? r->prefix[r->n_prefix - 1] : 0;
    if (r->has_pin)
        return jr_select_direct(c, n, r->pin_worker, r->has_pin_rank, r->pin_rank, last, ret);
    switch (p->config.mode) {
    case JR_MODE_ROUND_ROBIN:
        return jr_select_round_robin(n, &p->round_robin, ret);
    case JR_MODE_RANDOM:
        return jr_select_random(n, &p->rng, ret);
    case JR_MODE_LEAST_LOADED:
        return jr_select_least_loaded(c, n, &p->rng, ret);
    case JR_MODE_POWER_OF_TWO:
        return jr_select_power_of_two(c, n, &p->rng, ret);
    case JR_MODE_DEVICE_AWARE:
        return jr_select_device_aware(c, n, p->config.cpu_ratio, &p->rng, ret);
    case JR_MODE_DIRECT:
        return JR_EINVAL;
    case JR_MODE_KV:
        break;
    }
    const struct jr_route_override *o = &r->override;
    struct jr_select_config config = {p->config.tie,
                                      o->has_temperature ? o->temperature : p->config.temperature};
    return jr_select_cost(&config, c, n, last, &p->rng, ret);
}

static const char *words(const struct jr_route *r, int err)
{
    switch (err) {
    case JR_ENOTFOUND:
        return "the worker that the request names is not available";
    case JR_EINVAL:
        return "router mode direct needs a worker id in the request";
    case JR_EBUSY:
        return "All workers are busy, please retry later";
    case JR_ENOWORKER:
        return r->n_exclude ? "every worker failed this request"
                            : "no worker is available: start one, or wait for it";
    default:
        return jr_err_text(err);
    }
}

void jr_pool_reject(struct jr_pool *p, const struct jr_route *r, int err, const char *why)
{
    if (err == JR_EBUSY)
        p->n.rejected_busy++;
    else if (err == JR_ELIMIT)
        p->n.rejected_queue_full++;
    else if (err == JR_ETIMEOUT)
        p->n.rejected_timeout++;
    else
        p->n.rejected_no_worker++;
    struct jr_action *a = jr_pool_act(p, JR_ACT_REJECT);
    if (!a)
        return;
    a->u.reject.id = r->id;
    a->u.reject.err = err == JR_ELIMIT ? JR_EBUSY : err;
    a->u.reject.why = why ? why : words(r, err);
}

void jr_pool_reject_limited(struct jr_pool *p, const struct jr_route *r,
                            const struct jr_queue_refusal *limit)
{
    if (!limit->policy_class) {
        jr_pool_reject(p, r, JR_ELIMIT,
                       "All workers are busy and the queue is full, please retry later");
        return;
    }
    p->n.rejected_queue_full++;
    struct jr_action *a = jr_pool_act(p, JR_ACT_REJECT);
    if (!a)
        return;
    a->u.reject.id = r->id;
    a->u.reject.err = JR_EBUSY;
    a->u.reject.why = "All workers are busy and the queue of the request's policy class is full, "
                      "please retry later";
    a->u.reject.limit = *limit;
}

/* Hashes that count in the load: none, the prompt's, or (no reuse assumed) ones that nobody
 * shares. */
static int load_hashes(struct jr_pool *p, const struct jr_route *r, struct jr_booking *b)
{
    if (!p->config.track_active_blocks)
        return 0;
    b->n_blocks = r->n_prefix;
    b->blocks = r->prefix;
    if (jr_pool_assumes_reuse(p, r))
        return 0;
    p->scratch_hashes.n = 0;
    int err = jr_arr_reserve(&p->mem, &p->scratch_hashes, r->n_prefix, JR_PROMPT_BLOCKS_MAX);
    if (err < 0)
        return err;
    for (uint32_t i = 0; i < r->n_prefix; i++)
        p->scratch_hashes.v[i] = jr_rng_u64(&p->rng);
    b->blocks = p->scratch_hashes.v;
    return 0;
}

/* The booking takes the place of one of the same request, if there is one and it is not the same: then that
 * one's use of its session ends. Where that one is gone and there is no memory for the new, peers have it
 * until a base. */
static int replace(struct jr_pool *p, const struct jr_booking *b, struct jr_booked **ret)
{
    const struct jr_booked *was = jr_bookings_find(&p->own, b->request);
    struct jr_booked before = {.session = was ? was->session : 0,
                               .session_life = was ? was->session_life : 0};
    bool again = was != NULL;
    int err = jr_bookings_add(&p->own, b, p->now_ms, ret);
    const struct jr_booked *is = jr_bookings_find(&p->own, b->request);
    if (!is || !is->session)
        jr_pool_session_end(p, &before);
    if (again && !is)
        jr_pool_sync_lost(p);
    if (err == 0)
        (*ret)->again = again;
    return err;
}

static int book(struct jr_pool *p, const struct jr_route *r, const struct jr_candidate *c)
{
    bool prefill = jr_pool_tracks_prefill(p, r);
    uint64_t tokens = prefill ? c->uncached_tokens : 0;
    struct jr_booking b = {
        .request = r->id,
        .worker_id = c->worker_id,
        .dp_rank = c->dp_rank,
        .prefill_tokens = tokens > UINT32_MAX ? UINT32_MAX : (uint32_t)tokens,
        .prompt_tokens = r->tokens,
        .prefill_seconds = prefill ? c->estimate_s : 0,
    };
    int err = load_hashes(p, r, &b);
    if (err < 0)
        return err;
    struct jr_booked *k;
    err = replace(p, &b, &k);
    if (err < 0) {
        p->n.bookings_refused++;
        return err == JR_ELIMIT ? JR_EBUSY : err;
    }
    k->expected_output_tokens = r->expected_output_tokens;
    k->of_prompt = b.blocks == r->prefix;
    if (!k->session) /* admitted before: it counts once */
        jr_pool_session_begin(p, r, k);
    if (jr_request_is_outside(r->id))
        jr_pool_outside_booked(p, r->id);
    jr_pool_delta(p, JR_DELTA_ADMIT, &k->b);
    jr_pool_believe(p, r, c);
    return 0;
}

/* Without memory for it there is no record; the decision stands. */
static void keep_record(struct jr_pool *p, struct jr_decision *d)
{
    uint32_t n = p->candidates.n;
    if (jr_arr_reserve(&p->mem, &p->records, n, JR_POOL_RECORDS_MAX) < 0)
        return;
    d->record_at = p->records.n;
    d->n_record = n;
    memcpy(p->records.v + p->records.n, p->candidates.v, n * sizeof *p->candidates.v);
    p->records.n += n;
}

static void decide(struct jr_pool *p, const struct jr_route *r, const struct jr_candidate *c,
                   const struct jr_look *look, const struct jr_waiting *waited)
{
    const struct jr_worker *w = jr_workers_find(&p->workers, c->worker_id);
    struct jr_action *a = jr_pool_act(p, JR_ACT_DECIDE);
    if (!a)
        return;
    a->u.decide = (struct jr_decision){
        .id = r->id,
        .worker_id = c->worker_id,
        .dp_rank = c->dp_rank,
        .url = w->lease.url,
        .model = w->lease.model,
        .overlap_blocks = c->overlap_blocks + c->host_blocks + c->disk_blocks,
        .candidates = look->eligible,
        .cost = c->cost,
        .waited = waited != NULL,
        .waited_ms = waited ? p->now_ms - waited->since_ms : 0,
    };
    if (r->want_record)
        keep_record(p, &a->u.decide);
    p->n.decisions++;
    if (jr_pool_is_apart(p, r)) /* runs of bytes are no blocks of the index */
        return;
    p->n.overlap_blocks += c->overlap_blocks;
    p->n.prompt_blocks += r->n_prefix;
    p->n.prompt_tokens += r->tokens;
}

int jr_pool_admit(struct jr_pool *p, const struct jr_route *r, const struct jr_look *look,
                  const struct jr_waiting *waited)
{
    uint32_t at = 0;
    int err = choose(p, r, &at);
    if (err == 0 && !r->query_only)
        err = book(p, r, &p->candidates.v[at]);
    if (err == 0)
        decide(p, r, &p->candidates.v[at], look, waited);
    return err;
}

const uint64_t *jr_pool_booked_prefix(const struct jr_pool *p, uint64_t id, uint32_t *ret_n)
{
    const struct jr_booked *k = jr_bookings_find(&p->own, id);
    if (!k || !k->of_prompt)
        return NULL;
    *ret_n = k->b.n_blocks;
    return k->b.blocks;
}

int jr_pool_on_route(struct jr_pool *p, const struct jr_route *asked)
{
    struct jr_route route = *asked, *r = &route;
    struct jr_look look;
    struct jr_class class;
    struct jr_queue_refusal limit = {0};
    if (jr_pool_act_reserve(p) < 0) /* for the answer */
        return JR_ENOMEM;
    if (!jr_pool_override_is_valid(&r->override)) {
        jr_pool_reject(p, r, JR_EINVAL, "an override must be a finite number and not negative");
        return 0;
    }
    if (jr_pool_session_pin(p, r) < 0) {
        jr_pool_reject(p, r, JR_EINVAL, p->session_why);
        return 0;
    }
    int err = jr_pool_session_weigh(p, r, &look);
    if (err == 0 && jr_pool_queue_must_wait(p, r, &look, &class))
        err = jr_pool_queue_put(p, r, &look, &class, &limit);
    else if (err == 0)
        err = jr_pool_admit(p, r, &look, NULL);
    if (err == JR_ENOMEM)
        return err;
    if (err == JR_ELIMIT)
        jr_pool_reject_limited(p, r, &limit);
    else if (err < 0)
        jr_pool_reject(p, r, err, NULL);
    return 0;
}

void jr_pool_on_first_token(struct jr_pool *p, uint64_t id)
{
    struct jr_booked *k = jr_bookings_find(&p->own, id);
    if (!k)
        return;
    struct jr_active_sample sample;
    jr_bookings_first_token(&p->own, id, p->now_ms, &sample);
    if (sample.valid)
        jr_speed_add(&p->speed, sample.estimated_s, sample.taken_s);
    jr_pool_delta(p, JR_DELTA_FIRST_TOKEN, &k->b);
}

/* The nearer a request is to its expected end, the less its blocks count: they are about to go. */
static double output_weight(const struct jr_booked *k, uint32_t output_tokens)
{
    if (k->expected_output_tokens == 0 || k->expected_output_tokens <= output_tokens)
        return k->expected_output_tokens ? 0 : 1;
    return 1 - (double)output_tokens / k->expected_output_tokens;
}

void jr_pool_on_output(struct jr_pool *p, uint64_t id, uint32_t output_tokens)
{
    struct jr_booked *k = jr_bookings_find(&p->own, id);
    uint32_t block_size = jr_pool_block_size(p);
    if (!k || !block_size)
        return;
    uint64_t total = (uint64_t)k->b.prompt_tokens + output_tokens;
    uint32_t prompt = k->b.prompt_tokens / block_size;
    uint32_t blocks = (uint32_t)((total + block_size - 1) / block_size) - prompt;
    if (blocks <= k->b.output_blocks)
        return;
    k->output_weight = output_weight(k, output_tokens);
    jr_bookings_progress(&p->own, id, blocks, p->now_ms);
    jr_pool_delta(p, JR_DELTA_PROGRESS, &k->b);
}

void jr_pool_on_finish(struct jr_pool *p, uint64_t id)
{
    if (!jr_pool_queue_cancel(p, id))
        jr_pool_end_booking(p, id);
}

void jr_pool_end_booking(struct jr_pool *p, uint64_t id)
{
    struct jr_booked *k = jr_bookings_find(&p->own, id);
    if (!k)
        return;
    jr_pool_delta(p, JR_DELTA_DONE, &k->b);
    jr_pool_session_end(p, k);
    jr_bookings_done(&p->own, id, p->now_ms);
}
