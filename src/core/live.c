/* SPDX-License-Identifier: Apache-2.0 */
#include "core/live.h"
#include "base/assert.h"
#include "base/map.h"
#include <string.h>

#define NONE        JR_LIVE_NONE
#define FULL        JR_LIVE_FULL
#define RUNS_MIN    64
#define HOLDERS_MIN 4

/* Hashes that runs share. */
struct array {
    uint32_t refs, n;
    uint64_t hashes[];
};

struct jr_live_run {
    struct array *array; /* NULL: free */
    uint32_t at, n;      /* its slice; n > 0 */
    uint32_t parent;
    uint32_t next;  /* in the bucket, or free */
    uint32_t total; /* requests of all members */
    uint32_t n_holders, cap_holders;
    union {
        struct jr_live_holder one;   /* while cap_holders is 0 */
        struct jr_live_holder *many; /* by member */
    } holders;
};

void jr_live_init(struct jr_live *t, struct jr_mem *mem)
{
    *t = (struct jr_live){.mem = mem, .free_head = NONE};
}

/* ---- arrays ---------------------------------------------------------------------------------- */

static size_t array_bytes(uint32_t n)
{
    return sizeof(struct array) + (size_t)n * sizeof(uint64_t);
}

static struct array *array_make(struct jr_live *t, const uint64_t *hashes, uint32_t n)
{
    struct array *a = jr_mem_alloc(t->mem, array_bytes(n));

    if (!a)
        return NULL;
    a->refs = 1;
    a->n = n;
    memcpy(a->hashes, hashes, n * sizeof *hashes);
    t->other_bytes += array_bytes(n);
    return a;
}

static void array_unref(struct jr_live *t, struct array *a)
{
    if (--a->refs > 0)
        return;
    t->other_bytes -= array_bytes(a->n);
    jr_mem_free(t->mem, a, array_bytes(a->n));
}

/* ---- holders --------------------------------------------------------------------------------- */

static inline struct jr_live_holder *holders_of(struct jr_live_run *r)
{
    return r->cap_holders ? r->holders.many : &r->holders.one;
}

static inline const struct jr_live_holder *holders_in(const struct jr_live_run *r)
{
    return r->cap_holders ? r->holders.many : &r->holders.one;
}

/* First place whose member is not below. */
static uint32_t holder_place(const struct jr_live_run *r, uint32_t member)
{
    const struct jr_live_holder *v = holders_in(r);
    uint32_t lo = 0, hi = r->n_holders;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (v[mid].member < member)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct jr_live_holder *holder_find(struct jr_live_run *r, uint32_t member)
{
    struct jr_live_holder *v = holders_of(r);
    uint32_t at = holder_place(r, member);

    return at < r->n_holders && v[at].member == member ? &v[at] : NULL;
}

static void holders_free(struct jr_live *t, struct jr_live_run *r)
{
    size_t bytes = r->cap_holders * sizeof(struct jr_live_holder);

    if (r->cap_holders == 0)
        return;
    jr_mem_free(t->mem, r->holders.many, bytes);
    t->other_bytes -= bytes;
    r->cap_holders = 0;
}

static int holders_reserve(struct jr_live *t, struct jr_live_run *r, uint32_t n)
{
    uint32_t cap = r->cap_holders ? r->cap_holders : 1;
    struct jr_live_holder *v;

    if (n <= cap)
        return 0;
    cap = cap < HOLDERS_MIN ? HOLDERS_MIN : cap;
    while (cap < n)
        cap *= 2;
    v = jr_mem_alloc(t->mem, cap * sizeof *v);
    if (!v)
        return JR_ENOMEM;
    memcpy(v, holders_of(r), r->n_holders * sizeof *v);
    holders_free(t, r);
    r->holders.many = v;
    r->cap_holders = cap;
    t->other_bytes += cap * sizeof *v;
    return 0;
}

/* One more request of the member. */
static int hold(struct jr_live *t, struct jr_live_run *r, uint32_t member, uint64_t *sum)
{
    uint32_t at = holder_place(r, member);
    struct jr_live_holder *h = holders_of(r) + at;
    int rv;

    if (at == r->n_holders || h->member != member) {
        rv = holders_reserve(t, r, r->n_holders + 1);
        if (rv < 0)
            return rv;
        h = holders_of(r) + at;
        memmove(h + 1, h, (r->n_holders - at) * sizeof *h);
        r->n_holders++;
        *h = (struct jr_live_holder){.member = member};
    }
    h->refs++;
    *sum += (uint64_t)r->n * (FULL - h->weight);
    h->weight = FULL; /* what becomes shared counts whole again */
    r->total++;
    return 0;
}

static void unhold(struct jr_live_run *r, uint32_t member, uint64_t *sum)
{
    struct jr_live_holder *h = holder_find(r, member);

    JR_ASSERT(h && h->refs > 0);
    r->total--;
    if (--h->refs > 0)
        return;
    *sum -= (uint64_t)r->n * h->weight;
    r->n_holders--;
    memmove(h, h + 1, (size_t)(holders_of(r) + r->n_holders - h) * sizeof *h);
}

/* ---- runs ------------------------------------------------------------------------------------ */

static uint64_t first_hash(const struct jr_live_run *r)
{
    return r->array->hashes[r->at];
}

static uint32_t bucket_of(uint32_t n_buckets, uint32_t parent, uint64_t hash)
{
    return (uint32_t)jr_mix64(hash ^ (uint64_t)parent << 32) & (n_buckets - 1);
}

static void link_run(struct jr_live *t, uint32_t at)
{
    struct jr_live_run *r = &t->runs[at];
    uint32_t b = bucket_of(t->n_buckets, r->parent, first_hash(r));

    r->next = t->buckets[b];
    t->buckets[b] = at;
}

static void unlink_run(struct jr_live *t, uint32_t at)
{
    struct jr_live_run *r = &t->runs[at];
    uint32_t *p = &t->buckets[bucket_of(t->n_buckets, r->parent, first_hash(r))];

    while (*p != at)
        p = &t->runs[*p].next;
    *p = r->next;
}

static uint32_t find_child(const struct jr_live *t, uint32_t parent, uint64_t hash)
{
    uint32_t at = t->n_buckets ? t->buckets[bucket_of(t->n_buckets, parent, hash)] : NONE;

    while (at != NONE && (t->runs[at].parent != parent || first_hash(&t->runs[at]) != hash))
        at = t->runs[at].next;
    return at;
}

static int buckets_grow(struct jr_live *t)
{
    uint32_t n = t->n_buckets ? t->n_buckets * 2 : RUNS_MIN;
    uint32_t *buckets = jr_mem_alloc(t->mem, n * sizeof *buckets);

    if (!buckets)
        return JR_ENOMEM;
    jr_mem_free(t->mem, t->buckets, t->n_buckets * sizeof *buckets);
    memset(buckets, 0xff, n * sizeof *buckets); /* NONE */
    t->buckets = buckets;
    t->n_buckets = n;
    for (uint32_t i = 0; i < t->used; i++)
        if (t->runs[i].array)
            link_run(t, i);
    return 0;
}

/* Room for one more run. */
static int runs_reserve(struct jr_live *t)
{
    uint32_t cap = t->cap ? t->cap * 2 : RUNS_MIN;
    struct jr_live_run *v;

    if (t->n >= t->n_buckets && buckets_grow(t) < 0)
        return JR_ENOMEM;
    if (t->free_head != NONE || t->used < t->cap)
        return 0;
    v = jr_mem_realloc(t->mem, t->runs, t->cap * sizeof *v, cap * sizeof *v);
    if (!v)
        return JR_ENOMEM;
    t->runs = v;
    t->cap = cap;
    return 0;
}

static uint32_t run_take(struct jr_live *t)
{
    uint32_t at = t->free_head;

    if (at == NONE)
        at = t->used++;
    else
        t->free_head = t->runs[at].next;
    t->n++;
    return at;
}

/* It is linked no more. */
static void run_free(struct jr_live *t, uint32_t at)
{
    struct jr_live_run *r = &t->runs[at];

    array_unref(t, r->array);
    holders_free(t, r);
    *r = (struct jr_live_run){.next = t->free_head};
    t->free_head = at;
    t->n--;
}

/* A new run of all the hashes, nobody's yet. */
static int run_make(struct jr_live *t, uint32_t parent, const uint64_t *hashes, uint32_t n,
                    uint32_t *ret)
{
    struct array *a = runs_reserve(t) < 0 ? NULL : array_make(t, hashes, n);

    if (!a)
        return JR_ENOMEM;
    *ret = run_take(t);
    t->runs[*ret] = (struct jr_live_run){.array = a, .n = n, .parent = parent};
    link_run(t, *ret);
    return 0;
}

/* Cuts the run behind its first k blocks. The new run is the front: requests that end at the end of
 * the old one still do. */
static int split(struct jr_live *t, uint32_t at, uint32_t k, uint32_t *ret)
{
    struct jr_live_run front, *r;

    if (runs_reserve(t) < 0)
        return JR_ENOMEM;
    r = &t->runs[at];
    front = *r;
    front.n_holders = front.cap_holders = 0;
    if (holders_reserve(t, &front, r->n_holders) < 0)
        return JR_ENOMEM;
    memcpy(holders_of(&front), holders_of(r), r->n_holders * sizeof(struct jr_live_holder));
    front.n_holders = r->n_holders;
    front.n = k;
    front.array->refs++;
    unlink_run(t, at);
    *ret = run_take(t);
    t->runs[*ret] = front;
    r->parent = *ret;
    r->at += k;
    r->n -= k;
    link_run(t, *ret);
    link_run(t, at);
    return 0;
}

static bool same_holders(const struct jr_live_run *a, const struct jr_live_run *b)
{
    return a->n_holders == b->n_holders &&
           memcmp(holders_in(a), holders_in(b), a->n_holders * sizeof(struct jr_live_holder)) == 0;
}

/* Undoes a cut once all requests go on from the run to the rest of it. The rest takes it in: nobody
 * ends here. Its children's parent stays. */
static void merge(struct jr_live *t, uint32_t at)
{
    struct jr_live_run *r = &t->runs[at], *rest;
    uint32_t behind = r->at + r->n, child = NONE;

    if (behind < r->array->n)
        child = find_child(t, at, r->array->hashes[behind]);
    if (child == NONE)
        return;
    rest = &t->runs[child];
    if (rest->array != r->array || rest->at != behind || rest->total != r->total ||
        !same_holders(r, rest))
        return;
    unlink_run(t, at);
    unlink_run(t, child);
    rest->at = r->at;
    rest->n += r->n;
    rest->parent = r->parent;
    run_free(t, at);
    link_run(t, child);
}

/* ---- requests -------------------------------------------------------------------------------- */

static uint32_t common(const struct jr_live_run *r, const uint64_t *hashes, uint32_t n)
{
    const uint64_t *mine = r->array->hashes + r->at;
    uint32_t k = 1, most = r->n < n ? r->n : n; /* the first is known to be equal */

    while (k < most && mine[k] == hashes[k])
        k++;
    return k;
}

/* The run that begins with these blocks under a parent, cut where they part from it or end; made
 * when there is none. Gives how many of the blocks it is. */
static int descend(struct jr_live *t, uint32_t parent, const uint64_t *hashes, uint32_t n,
                   uint32_t *ret, uint32_t *ret_n)
{
    uint32_t child = find_child(t, parent, hashes[0]);

    *ret = child;
    *ret_n = child == NONE ? n : common(&t->runs[child], hashes, n);
    if (child == NONE)
        return run_make(t, parent, hashes, n, ret);
    return *ret_n < t->runs[child].n ? split(t, child, *ret_n, ret) : 0;
}

int jr_live_take(struct jr_live *t, uint32_t member, const uint64_t *hashes, uint32_t n,
                 uint64_t *sum, uint32_t *ret)
{
    uint32_t tail = NONE, at = NONE, k = 0;

    for (uint32_t i = 0; i < n; i += k, tail = at) {
        int rv = descend(t, tail, hashes + i, n - i, &at, &k);
        if (rv == 0)
            rv = hold(t, &t->runs[at], member, sum);
        if (rv < 0) {
            jr_live_give(t, member, tail, sum);
            return rv;
        }
    }
    *ret = tail;
    return 0;
}

void jr_live_give(struct jr_live *t, uint32_t member, uint32_t tail, uint64_t *sum)
{
    while (tail != NONE) {
        struct jr_live_run *r = &t->runs[tail];
        uint32_t at = tail;

        tail = r->parent;
        unhold(r, member, sum);
        if (r->total > 0) {
            merge(t, at);
        } else {
            unlink_run(t, at);
            run_free(t, at);
        }
    }
}

void jr_live_weigh(struct jr_live *t, uint32_t member, uint32_t tail, uint32_t weight,
                   uint64_t *sum)
{
    for (; tail != NONE; tail = t->runs[tail].parent) {
        struct jr_live_run *r = &t->runs[tail];
        struct jr_live_holder *h = holder_find(r, member);

        JR_ASSERT(h);
        if (h->refs > 1)
            return;
        *sum += (uint64_t)r->n * weight;
        *sum -= (uint64_t)r->n * h->weight;
        h->weight = weight;
    }
}

/* ---- queries --------------------------------------------------------------------------------- */

uint32_t jr_live_match(const struct jr_live *t, uint32_t member, const uint64_t *hashes, uint32_t n)
{
    uint32_t at = NONE, i = 0;

    while (i < n) {
        at = find_child(t, at, hashes[i]);
        if (at == NONE || !holder_find(&t->runs[at], member))
            return i;
        uint32_t k = common(&t->runs[at], hashes + i, n - i);
        i += k;
        if (k < t->runs[at].n)
            return i;
    }
    return i;
}

void jr_live_match_all(const struct jr_live *t, const uint64_t *hashes, uint32_t n, uint32_t *depth)
{
    uint32_t at = NONE, i = 0;

    while (i < n) {
        at = find_child(t, at, hashes[i]);
        if (at == NONE)
            return;
        const struct jr_live_run *r = &t->runs[at];
        const struct jr_live_holder *v = holders_in(r), *end = v + r->n_holders;
        uint32_t k = common(r, hashes + i, n - i), whole = r->n;
        i += k;
        for (; v < end; v++)
            depth[v->member] = depth[v->member] > i ? depth[v->member] : i;
        if (k < whole)
            return;
    }
}

uint64_t jr_live_bytes(const struct jr_live *t)
{
    return t->cap * sizeof *t->runs + t->n_buckets * sizeof *t->buckets + t->other_bytes;
}

void jr_live_deinit(struct jr_live *t)
{
    for (uint32_t i = 0; i < t->used; i++) {
        if (t->runs[i].array) {
            array_unref(t, t->runs[i].array);
            holders_free(t, &t->runs[i]);
        }
    }
    jr_mem_free(t->mem, t->runs, t->cap * sizeof *t->runs);
    jr_mem_free(t->mem, t->buckets, t->n_buckets * sizeof *t->buckets);
    jr_live_init(t, t->mem);
}

/* ---- self-check ------------------------------------------------------------------------------ */

uint32_t jr_live_depth(const struct jr_live *t, uint32_t member, uint32_t tail)
{
    uint32_t n = 0;

    for (; tail != NONE; tail = t->runs[tail].parent) {
        JR_ASSERT(holder_find(&t->runs[tail], member));
        n += t->runs[tail].n;
    }
    return n;
}

uint64_t jr_live_sum(const struct jr_live *t, uint32_t member)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < t->used; i++) {
        const struct jr_live_holder *h = t->runs[i].array ? holder_find(&t->runs[i], member) : NULL;
        sum += h ? (uint64_t)t->runs[i].n * h->weight : 0;
    }
    return sum;
}

static void check_run(const struct jr_live *t, uint32_t at)
{
    const struct jr_live_run *r = &t->runs[at];
    const struct jr_live_holder *v = holders_in(r);
    uint32_t total = 0;

    JR_ASSERT(r->n > 0 && r->at + r->n <= r->array->n && r->total > 0);
    JR_ASSERT(find_child(t, r->parent, first_hash(r)) == at);
    JR_ASSERT(r->parent == NONE || t->runs[r->parent].total >= r->total);
    for (uint32_t i = 0; i < r->n_holders; i++) {
        JR_ASSERT(v[i].refs > 0 && v[i].weight <= FULL);
        JR_ASSERT(i == 0 || v[i - 1].member < v[i].member);
        total += v[i].refs;
    }
    JR_ASSERT(total == r->total);
}

void jr_live_check(const struct jr_live *t)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < t->used; i++) {
        if (!t->runs[i].array)
            continue;
        check_run(t, i);
        n++;
    }
    JR_ASSERT(n == t->n);
}
