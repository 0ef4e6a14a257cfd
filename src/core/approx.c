/* SPDX-License-Identifier: Apache-2.0 */
#include "core/approx.h"

#include "base/arr.h"
#include "base/assert.h"
#include "base/limits.h"
#include "base/map.h"

#include <string.h>

#define NONE        UINT32_MAX
#define BUCKETS_MIN 64
#define INSERT_WORK 64 /* entries an insertion may take beyond twice its own */

struct entry {
    uint64_t prefix;
    uint64_t at_ms; /* last routed */
    uint32_t member;
    uint32_t prev, next;   /* in order of leaving; next also links the free ones */
    uint32_t chain;        /* of the bucket */
    uint32_t mprev, mnext; /* of the member */
};

struct jr_approx {
    struct jr_mem *mem;
    struct jr_approx_config config;
    uint64_t target; /* entries left by a pruning */
    bool pruning;
    uint64_t now_ms;
    struct jr_index *index;
    struct {
        JR_ARR_FIELDS(struct entry);
    } entries;
    uint32_t free_head, head, tail;
    uint32_t n;
    uint32_t *buckets;
    uint32_t n_buckets; /* a power of two */
    struct {
        JR_ARR_FIELDS(uint32_t);
    } members; /* first entry of each */
};

int jr_approx_create(struct jr_mem *mem, const struct jr_approx_config *config,
                     struct jr_approx **ret)
{
    if (config->entries_max == 0 || !(config->prune_ratio >= 0 && config->prune_ratio <= 1))
        return JR_EINVAL;
    struct jr_approx *a = jr_mem_zalloc(mem, sizeof *a);
    if (!a)
        return JR_ENOMEM;
    a->mem = mem;
    a->config = *config;
    if (a->config.entries_max > UINT32_MAX / 2)
        a->config.entries_max = UINT32_MAX / 2;
    a->target = (uint64_t)((double)a->config.entries_max * config->prune_ratio);
    a->free_head = a->head = a->tail = NONE;
    int err = jr_index_create(mem, 0, &a->index);
    if (err < 0) {
        jr_approx_destroy(a);
        return err;
    }
    *ret = a;
    return 0;
}

void jr_approx_destroy(struct jr_approx *a)
{
    if (!a)
        return;
    jr_index_destroy(a->index);
    jr_arr_free(a->mem, &a->entries);
    jr_arr_free(a->mem, &a->members);
    jr_mem_free(a->mem, a->buckets, a->n_buckets * sizeof *a->buckets);
    jr_mem_free(a->mem, a, sizeof *a);
}

/* ---------------------------------------------------------------- the table */

static uint32_t *bucket_of(const struct jr_approx *a, uint32_t member, uint64_t prefix)
{
    return &a->buckets[jr_mix64(prefix ^ jr_mix64(member)) & (a->n_buckets - 1)];
}

static uint32_t find(const struct jr_approx *a, uint32_t member, uint64_t prefix)
{
    if (a->n_buckets == 0)
        return NONE;
    uint32_t i = *bucket_of(a, member, prefix);
    while (i != NONE && (a->entries.v[i].prefix != prefix || a->entries.v[i].member != member))
        i = a->entries.v[i].chain;
    return i;
}

static void chain(struct jr_approx *a, uint32_t i)
{
    struct entry *e = &a->entries.v[i];
    uint32_t *b = bucket_of(a, e->member, e->prefix);
    e->chain = *b;
    *b = i;
}

static void unchain(struct jr_approx *a, uint32_t i)
{
    const struct entry *e = &a->entries.v[i];
    uint32_t *at = bucket_of(a, e->member, e->prefix);
    while (*at != i)
        at = &a->entries.v[*at].chain;
    *at = e->chain;
}

static int grow_buckets(struct jr_approx *a)
{
    if (a->n < a->n_buckets)
        return 0;
    uint32_t n = a->n_buckets ? a->n_buckets * 2 : BUCKETS_MIN;
    uint32_t *v = jr_mem_alloc(a->mem, n * sizeof *v);
    if (!v)
        return JR_ENOMEM;
    memset(v, 0xff, n * sizeof *v); /* NONE */
    jr_mem_free(a->mem, a->buckets, a->n_buckets * sizeof *a->buckets);
    a->buckets = v;
    a->n_buckets = n;
    for (uint32_t i = a->head; i != NONE; i = a->entries.v[i].next)
        chain(a, i);
    return 0;
}

/* ---------------------------------------------------------------- the lists */

static void unlink_entry(struct jr_approx *a, uint32_t i)
{
    const struct entry *e = &a->entries.v[i];
    if (e->prev == NONE)
        a->head = e->next;
    else
        a->entries.v[e->prev].next = e->next;
    if (e->next == NONE)
        a->tail = e->prev;
    else
        a->entries.v[e->next].prev = e->prev;
}

/* Before another, or at the end for NONE. */
static void link_before(struct jr_approx *a, uint32_t i, uint32_t before)
{
    struct entry *e = &a->entries.v[i];
    e->next = before;
    e->prev = before == NONE ? a->tail : a->entries.v[before].prev;
    if (e->prev == NONE)
        a->head = i;
    else
        a->entries.v[e->prev].next = i;
    if (before == NONE)
        a->tail = i;
    else
        a->entries.v[before].prev = i;
}

static void link_member(struct jr_approx *a, uint32_t i)
{
    struct entry *e = &a->entries.v[i];
    uint32_t *first = &a->members.v[e->member];
    e->mprev = NONE;
    e->mnext = *first;
    if (*first != NONE)
        a->entries.v[*first].mprev = i;
    *first = i;
}

static void unlink_member(struct jr_approx *a, uint32_t i)
{
    const struct entry *e = &a->entries.v[i];
    if (e->mprev == NONE)
        a->members.v[e->member] = e->mnext;
    else
        a->entries.v[e->mprev].mnext = e->mnext;
    if (e->mnext != NONE)
        a->entries.v[e->mnext].mprev = e->mprev;
}

/* ---------------------------------------------------------------- entries come and go */

static void free_entry(struct jr_approx *a, uint32_t i)
{
    unchain(a, i);
    unlink_entry(a, i);
    unlink_member(a, i);
    a->entries.v[i].next = a->free_head;
    a->free_head = i;
    a->n--;
}

static void take_head(struct jr_approx *a)
{
    const struct entry *e = &a->entries.v[a->head];
    (void)jr_index_remove(a->index, e->member, &e->prefix, 1);
    free_entry(a, a->head);
}

static int take_free(struct jr_approx *a, uint32_t *ret)
{
    if (a->free_head != NONE) {
        *ret = a->free_head;
        a->free_head = a->entries.v[*ret].next;
        return 0;
    }
    int err = jr_arr_reserve(a->mem, &a->entries, 1, UINT32_MAX - 1);
    if (err < 0)
        return err;
    *ret = a->entries.n++;
    return 0;
}

static int new_entry(struct jr_approx *a, uint32_t member, uint64_t prefix, uint32_t *ret)
{
    uint32_t i = 0;
    int err = grow_buckets(a);
    if (err == 0)
        err = take_free(a, &i);
    if (err < 0)
        return err;
    a->entries.v[i].member = member;
    a->entries.v[i].prefix = prefix;
    err = jr_index_restore(a->index, member, prefix, prefix);
    if (err < 0) {
        a->entries.v[i].next = a->free_head;
        a->free_head = i;
        return err;
    }
    chain(a, i);
    link_member(a, i);
    a->n++;
    *ret = i;
    return 0;
}

/* The entry stands before *cursor afterwards, and is the cursor. */
static int renew(struct jr_approx *a, uint32_t member, uint64_t prefix, uint32_t *cursor)
{
    uint32_t i = find(a, member, prefix);
    if (i != NONE && i == *cursor) /* two blocks in a row with one hash */
        return 0;
    if (i != NONE) {
        unlink_entry(a, i);
    } else {
        int err = new_entry(a, member, prefix, &i);
        if (err < 0)
            return err;
    }
    a->entries.v[i].at_ms = a->now_ms;
    link_before(a, i, *cursor);
    *cursor = i;
    return 0;
}

static int introduce(struct jr_approx *a, uint32_t member, uint64_t worker_id, uint32_t dp_rank)
{
    if (member >= JR_WORKERS_MAX)
        return JR_ELIMIT;
    while (a->members.n <= member) {
        int err = jr_arr_reserve(a->mem, &a->members, 1, JR_WORKERS_MAX);
        if (err < 0)
            return err;
        a->members.v[a->members.n++] = NONE;
    }
    if (jr_index_has_member(a->index, member))
        return 0;
    return jr_index_add_member(a->index, member, worker_id, dp_rank);
}

int jr_approx_insert(struct jr_approx *a, uint32_t member, uint64_t worker_id, uint32_t dp_rank,
                     const uint64_t *prefix, uint32_t n, uint64_t now_ms)
{
    if (n > JR_PROMPT_BLOCKS_MAX)
        return JR_ELIMIT;
    if (now_ms > a->now_ms)
        a->now_ms = now_ms;
    int err = introduce(a, member, worker_id, dp_rank);
    uint32_t cursor = NONE;
    for (uint32_t i = 0; err == 0 && i < n; i++)
        err = renew(a, member, prefix[i], &cursor);
    if (a->n > a->config.entries_max)
        a->pruning = true;
    (void)jr_approx_work(a, now_ms, 2 * n + INSERT_WORK);
    return err;
}

void jr_approx_drop(struct jr_approx *a, uint32_t member)
{
    if (!jr_index_has_member(a->index, member))
        return;
    jr_index_clear(a->index, member);
    jr_index_drop_member(a->index, member);
    while (a->members.v[member] != NONE)
        free_entry(a, a->members.v[member]);
}

static bool is_expired(const struct jr_approx *a, uint64_t now_ms)
{
    uint64_t at_ms = a->entries.v[a->head].at_ms;
    return now_ms >= at_ms && now_ms - at_ms >= a->config.ttl_ms;
}

bool jr_approx_is_due(const struct jr_approx *a, uint64_t now_ms)
{
    return a->n > 0 && ((a->pruning && a->n > a->target) || is_expired(a, now_ms));
}

bool jr_approx_work(struct jr_approx *a, uint64_t now_ms, uint32_t max)
{
    for (; max > 0 && jr_approx_is_due(a, now_ms); max--)
        take_head(a);
    if (a->n <= a->target)
        a->pruning = false;
    (void)jr_index_work(a->index, max);
    return jr_approx_is_due(a, now_ms);
}

/* ---------------------------------------------------------------- looking in */

const struct jr_index *jr_approx_index(const struct jr_approx *a)
{
    return a->index;
}

uint64_t jr_approx_entries(const struct jr_approx *a)
{
    return a->n;
}

uint64_t jr_approx_member_entries(const struct jr_approx *a, uint32_t member)
{
    if (!jr_index_has_member(a->index, member))
        return 0;
    return jr_index_member_entries(a->index, member);
}

void jr_approx_check(const struct jr_approx *a)
{
    uint32_t n = 0, prev = NONE, of_members = 0;
    for (uint32_t i = a->head; i != NONE; prev = i, i = a->entries.v[i].next, n++) {
        const struct entry *e = &a->entries.v[i];
        JR_ASSERT(e->prev == prev);
        JR_ASSERT(prev == NONE || a->entries.v[prev].at_ms <= e->at_ms);
        JR_ASSERT(find(a, e->member, e->prefix) == i);
        JR_ASSERT(jr_index_lookup(a->index, e->member, e->prefix, NULL));
    }
    JR_ASSERT(a->tail == prev);
    for (uint32_t m = 0; m < a->members.n; m++)
        for (uint32_t i = a->members.v[m]; i != NONE; i = a->entries.v[i].mnext, of_members++)
            JR_ASSERT(a->entries.v[i].member == m);
    JR_ASSERT(n == a->n && of_members == n && jr_index_entries(a->index) == n);
    jr_index_check(a->index);
}
