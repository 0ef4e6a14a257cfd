/* SPDX-License-Identifier: Apache-2.0 */
#include "core/active.h"
#include "base/assert.h"
#include "base/limit.h"
#include "base/limits.h"
#include "base/map.h"
#include "core/live.h"
#include <math.h>
#include <string.h>

#define NONE         UINT32_MAX
#define FULL         JR_LIVE_FULL
#define TICKS_PER_S  ((double)(UINT64_C(1) << 30)) /* a power of two: seconds are exact */
#define PREFILL_MAX  1e6                           /* seconds; sums of 2^20 of them fit */
#define MEMBERS_MIN  16
#define REQUESTS_MIN 64

/* A booking. Those in prefill form a queue per member, oldest first; free ones a list by `next`. */
struct request {
    uint64_t key;
    uint64_t prefill_tokens;
    uint64_t prefill_ticks;
    uint32_t n;    /* blocks of its prompt */
    uint32_t tail; /* of them, in the tree */
    uint32_t member;
    uint32_t prev, next;
    uint32_t output;        /* blocks */
    uint32_t output_weight; /* of each */
    bool decoding;
    bool live;
};

struct load {
    uint64_t weight; /* sum over live blocks and output blocks */
    uint64_t prefill_tokens;
    uint64_t prefill_ticks;
    uint64_t turn_ms;      /* when the oldest prefill got its turn */
    uint64_t passed_ticks; /* estimates of those that ended behind it since */
    uint32_t oldest, newest;
    uint32_t requests;
    uint32_t prefilling;
};

struct jr_active {
    struct jr_mem *mem;
    struct load *loads; /* by member */
    struct jr_active_pace *paces;
    uint32_t loads_cap, paces_cap;
    struct request *requests;
    uint32_t requests_cap;
    uint32_t requests_used; /* ever */
    uint32_t free_head;
    uint32_t n;
    struct jr_live live;  /* the prompts of all */
    struct jr_map by_key; /* key -> index in requests */
};

int jr_active_create(struct jr_mem *mem, struct jr_active **ret)
{
    struct jr_active *a = jr_mem_zalloc(mem, sizeof *a);

    if (!a)
        return JR_ENOMEM;
    a->mem = mem;
    a->free_head = NONE;
    jr_live_init(&a->live, mem);
    jr_map_init(&a->by_key, mem);
    *ret = a;
    return 0;
}

void jr_active_destroy(struct jr_active *a)
{
    if (!a)
        return;
    jr_live_deinit(&a->live);
    jr_mem_free(a->mem, a->paces, a->paces_cap * sizeof *a->paces);
    jr_mem_free(a->mem, a->loads, a->loads_cap * sizeof *a->loads);
    jr_mem_free(a->mem, a->requests, a->requests_cap * sizeof *a->requests);
    jr_map_deinit(&a->by_key);
    jr_mem_free(a->mem, a, sizeof *a);
}

/* ---- bookings -------------------------------------------------------------------------------- */

static int grow(struct jr_mem *mem, void **v, size_t size, uint32_t from, uint32_t to)
{
    char *bigger = jr_mem_realloc(mem, *v, from * size, to * size);

    if (!bigger)
        return JR_ENOMEM;
    memset(bigger + from * size, 0, (to - from) * size);
    *v = bigger;
    return 0;
}

static int loads_reserve(struct jr_active *a, uint32_t member)
{
    uint32_t cap = a->loads_cap > 0 ? a->loads_cap : MEMBERS_MIN;

    if (member < a->loads_cap)
        return 0;
    while (cap <= member)
        cap *= 2;
    if (a->paces_cap < cap) {
        if (grow(a->mem, (void **)&a->paces, sizeof *a->paces, a->paces_cap, cap) < 0)
            return JR_ENOMEM;
        a->paces_cap = cap;
    }
    if (grow(a->mem, (void **)&a->loads, sizeof *a->loads, a->loads_cap, cap) < 0)
        return JR_ENOMEM;
    for (uint32_t i = a->loads_cap; i < cap; i++)
        a->loads[i].oldest = a->loads[i].newest = NONE;
    a->loads_cap = cap;
    return 0;
}

static int requests_reserve(struct jr_active *a)
{
    uint32_t cap = a->requests_cap > 0 ? a->requests_cap * 2 : REQUESTS_MIN;
    struct request *v;

    if (a->free_head != NONE || a->requests_used < a->requests_cap)
        return 0;
    if (a->requests_used >= JR_REQUESTS_MAX)
        return jr_limit(JR_LIMIT_REQUESTS);
    v = jr_mem_realloc(a->mem, a->requests, a->requests_cap * sizeof *v, cap * sizeof *v);
    if (!v)
        return JR_ENOMEM;
    a->requests = v;
    a->requests_cap = cap;
    return 0;
}

static uint32_t request_take(struct jr_active *a)
{
    uint32_t i = a->free_head;

    if (i == NONE)
        return a->requests_used++;
    a->free_head = a->requests[i].next;
    return i;
}

static struct request *request_of(const struct jr_active *a, uint64_t key)
{
    uint64_t i;
    return jr_map_get(&a->by_key, key, &i) ? &a->requests[i] : NULL;
}

/* Times and estimates fit in 63 bits, and from there a conversion is one instruction. */
static inline double to_double(uint64_t v)
{
    return (double)(int64_t)v;
}

static inline double to_seconds(uint64_t ticks)
{
    return to_double(ticks) / TICKS_PER_S;
}

/* After any change of a load. */
static void set_pace(struct jr_active *a, uint32_t member)
{
    const struct load *l = &a->loads[member];

    a->paces[member] = (struct jr_active_pace){
        .prefill_s = to_seconds(l->prefill_ticks),
        .oldest_s = l->oldest == NONE ? 0 : to_seconds(a->requests[l->oldest].prefill_ticks),
        .turn_ms = to_double(l->turn_ms),
        .requests = l->requests,
        .prefilling = l->prefilling,
    };
}

static void prefill_push(struct jr_active *a, uint32_t at, uint64_t now_ms)
{
    struct request *r = &a->requests[at];
    struct load *l = &a->loads[r->member];

    r->prev = l->newest;
    r->next = NONE;
    if (l->newest == NONE) {
        l->oldest = at;
        l->turn_ms = now_ms;
    } else {
        a->requests[l->newest].next = at;
    }
    l->newest = at;
    l->prefilling++;
    l->prefill_tokens += r->prefill_tokens;
    l->prefill_ticks += r->prefill_ticks;
}

static void prefill_drop(struct jr_active *a, struct request *r, uint64_t now_ms)
{
    struct load *l = &a->loads[r->member];

    if (r->prev == NONE) {
        l->oldest = r->next;
        l->turn_ms = now_ms; /* of the one that is oldest now */
        l->passed_ticks = 0;
    } else {
        a->requests[r->prev].next = r->next;
    }
    if (r->next == NONE)
        l->newest = r->prev;
    else
        a->requests[r->next].prev = r->prev;
    l->prefilling--;
    l->prefill_tokens -= r->prefill_tokens;
    l->prefill_ticks -= r->prefill_ticks;
    r->decoding = true;
}

static uint64_t to_ticks(double seconds)
{
    if (!(seconds > 0)) /* NaN too */
        return 0;
    return (uint64_t)(fmin(seconds, PREFILL_MAX) * TICKS_PER_S);
}

/* Everything that may fail, so that the rest of an add cannot. */
static int add_reserve(struct jr_active *a, const struct jr_active_booking *b, uint32_t *ret_tail)
{
    uint64_t *sum;
    int rv;

    rv = loads_reserve(a, b->member);
    if (rv == 0)
        rv = requests_reserve(a);
    if (rv < 0)
        return rv;
    sum = &a->loads[b->member].weight;
    rv = jr_live_take(&a->live, b->member, b->prefix_hashes, b->n, sum, ret_tail);
    if (rv < 0)
        return rv;
    /* The number that request_take will give. */
    rv = jr_map_put(&a->by_key, b->key, a->free_head != NONE ? a->free_head : a->requests_used);
    if (rv < 0)
        jr_live_give(&a->live, b->member, *ret_tail, sum);
    return rv;
}

int jr_active_add(struct jr_active *a, const struct jr_active_booking *b, uint64_t now_ms)
{
    uint32_t at, tail;
    int rv;

    if (b->member >= JR_WORKERS_MAX || b->n > JR_PROMPT_BLOCKS_MAX)
        return JR_ELIMIT;
    if (request_of(a, b->key))
        return JR_EEXIST;
    rv = add_reserve(a, b, &tail);
    if (rv < 0)
        return rv;
    at = request_take(a);
    a->requests[at] = (struct request){
        .key = b->key,
        .prefill_tokens = b->prefill_tokens,
        .prefill_ticks = to_ticks(b->prefill_seconds),
        .n = b->n,
        .tail = tail,
        .member = b->member,
        .output_weight = FULL,
        .live = true,
    };
    a->loads[b->member].requests++;
    prefill_push(a, at, now_ms);
    set_pace(a, b->member);
    a->n++;
    return 0;
}

/* An engine computes several prompts in one step, and their first tokens come together, in any
 * order: those that were ahead of the oldest by chance belong to the time it took. */
static struct jr_active_sample take_sample(const struct load *l, const struct request *r,
                                           uint64_t now_ms)
{
    struct jr_active_sample s = {.valid = now_ms >= l->turn_ms};

    s.estimated_s = (double)(r->prefill_ticks + l->passed_ticks) / TICKS_PER_S;
    s.taken_s = s.valid ? (double)(now_ms - l->turn_ms) / 1000 : 0;
    return s;
}

int jr_active_first_token(struct jr_active *a, uint64_t key, uint64_t now_ms,
                          struct jr_active_sample *ret_sample)
{
    struct request *r = request_of(a, key);
    struct jr_active_sample sample = {0};

    if (!r)
        return JR_ENOTFOUND;
    if (!r->decoding) {
        struct load *l = &a->loads[r->member];
        if (r->prev == NONE)
            sample = take_sample(l, r, now_ms);
        else
            l->passed_ticks += r->prefill_ticks;
        prefill_drop(a, r, now_ms);
        set_pace(a, r->member);
    }
    if (ret_sample)
        *ret_sample = sample;
    return 0;
}

static uint32_t to_weight(double weight)
{
    if (!(weight < 1)) /* NaN too */
        return FULL;
    return weight > 0 ? (uint32_t)(weight * FULL + 0.5) : 0;
}

int jr_active_output_blocks(struct jr_active *a, uint64_t key, uint32_t total, double weight)
{
    struct request *r = request_of(a, key);
    uint32_t w = to_weight(weight);
    struct load *l;
    bool decays;

    if (!r)
        return JR_ENOTFOUND;
    decays = w != FULL || r->output_weight != FULL;
    l = &a->loads[r->member];
    l->weight += (uint64_t)total * w;
    l->weight -= (uint64_t)r->output * r->output_weight;
    /* The end of the prompt that is this request's alone goes when it goes. */
    if (decays)
        jr_live_weigh(&a->live, r->member, r->tail, w, &l->weight);
    r->output = total;
    r->output_weight = w;
    return 0;
}

int jr_active_free(struct jr_active *a, uint64_t key, uint64_t now_ms)
{
    struct request *r;
    struct load *l;
    uint64_t at;

    if (!jr_map_del(&a->by_key, key, &at))
        return JR_ENOTFOUND;
    r = &a->requests[at];
    l = &a->loads[r->member];
    if (!r->decoding)
        prefill_drop(a, r, now_ms);
    jr_live_give(&a->live, r->member, r->tail, &l->weight);
    l->weight -= (uint64_t)r->output * r->output_weight;
    l->requests--;
    set_pace(a, r->member);
    *r = (struct request){.next = a->free_head};
    a->free_head = (uint32_t)at;
    a->n--;
    return 0;
}

/* ---- queries --------------------------------------------------------------------------------- */

const struct jr_active_pace *jr_active_paces(const struct jr_active *a, uint32_t *ret_n)
{
    *ret_n = a->loads_cap;
    return a->paces;
}

void jr_active_load(const struct jr_active *a, uint32_t member, uint64_t now_ms, double speed,
                    struct jr_active_load *ret)
{
    const struct load *l;

    if (member >= a->loads_cap) {
        *ret = (struct jr_active_load){0};
        return;
    }
    l = &a->loads[member];
    ret->requests = l->requests;
    ret->decoding = l->requests - l->prefilling;
    ret->active_blocks = (l->weight + FULL / 2) / FULL;
    ret->prefill_tokens = l->prefill_tokens;
    ret->backlog_s = jr_active_backlog(&a->paces[member], to_double(now_ms), speed);
}

uint32_t jr_active_match(const struct jr_active *a, uint32_t member, const uint64_t *prefix_hashes,
                         uint32_t n)
{
    return jr_live_match(&a->live, member, prefix_hashes, n);
}

void jr_active_match_all(const struct jr_active *a, const uint64_t *prefix_hashes, uint32_t n,
                         uint32_t *depth)
{
    jr_live_match_all(&a->live, prefix_hashes, n, depth);
}

uint32_t jr_active_requests(const struct jr_active *a)
{
    return a->n;
}

bool jr_active_get(const struct jr_active *a, uint64_t key, uint32_t *ret_member,
                   bool *ret_decoding)
{
    const struct request *r = request_of(a, key);

    if (!r)
        return false;
    *ret_member = r->member;
    *ret_decoding = r->decoding;
    return true;
}

uint64_t jr_active_bytes(const struct jr_active *a)
{
    return sizeof *a + a->loads_cap * sizeof *a->loads + a->paces_cap * sizeof *a->paces +
           a->requests_cap * sizeof *a->requests + jr_live_bytes(&a->live) +
           a->by_key.cap * (sizeof *a->by_key.slots + sizeof *a->by_key.used);
}

/* ---- self-check ------------------------------------------------------------------------------ */

static void check_load(const struct jr_active *a, uint32_t member)
{
    const struct load *l = &a->loads[member];
    uint64_t weight = jr_live_sum(&a->live, member), tokens = 0, ticks = 0;
    uint32_t requests = 0, queued = 0, last = NONE;

    for (uint32_t i = 0; i < a->requests_used; i++) {
        const struct request *r = &a->requests[i];
        if (!r->live || r->member != member)
            continue;
        requests++;
        weight += (uint64_t)r->output * r->output_weight;
        JR_ASSERT(jr_live_depth(&a->live, member, r->tail) == r->n);
    }
    for (uint32_t i = l->oldest; i != NONE; i = a->requests[i].next) {
        JR_ASSERT(a->requests[i].live && !a->requests[i].decoding && a->requests[i].prev == last);
        tokens += a->requests[i].prefill_tokens;
        ticks += a->requests[i].prefill_ticks;
        queued++;
        last = i;
    }
    JR_ASSERT(last == l->newest && queued == l->prefilling && requests == l->requests);
    JR_ASSERT(weight == l->weight && tokens == l->prefill_tokens && ticks == l->prefill_ticks);
}

void jr_active_check(const struct jr_active *a)
{
    uint32_t live = 0;

    for (uint32_t i = 0; i < a->requests_used; i++)
        live += a->requests[i].live;
    JR_ASSERT(live == a->n && live == a->by_key.n);
    jr_live_check(&a->live);
    for (uint32_t i = 0; i < a->loads_cap; i++)
        check_load(a, i);
}
