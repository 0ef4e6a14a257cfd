/* SPDX-License-Identifier: Apache-2.0 */
#include "core/bookings.h"

#include "base/bug.h"
#include "base/limit.h"
#include "base/limits.h"

#include <string.h>

void jr_bookings_init(struct jr_bookings *bs, struct jr_mem *mem, struct jr_members *members,
                      struct jr_active *active, uint64_t *next_key)
{
    *bs = (struct jr_bookings){
        .mem = mem, .members = members, .active = active, .next_key = next_key, .counted = true};
    jr_map_init(&bs->by_request, mem);
    jr_list_init(&bs->list);
}

struct jr_booked *jr_bookings_find(const struct jr_bookings *bs, uint64_t request)
{
    uint64_t value;
    if (!jr_map_get(&bs->by_request, request, &value))
        return NULL;
    return (struct jr_booked *)(uintptr_t)value;
}

static void touch(struct jr_bookings *bs, struct jr_booked *k, uint64_t now_ms)
{
    k->progress_at_ms = now_ms;
    jr_list_remove(&k->node);
    jr_list_push_back(&bs->list, &k->node);
}

static void uncount(struct jr_bookings *bs, struct jr_booked *k, uint64_t now_ms)
{
    if (!k->in_active)
        return;
    (void)jr_active_free(bs->active, k->key, now_ms);
    k->in_active = false;
}

static int count(struct jr_bookings *bs, struct jr_booked *k, uint64_t now_ms)
{
    struct jr_active_booking a = {
        .key = k->key,
        .member = k->member,
        .prefix_hashes = k->b.blocks,
        .n = k->b.n_blocks,
        .prefill_tokens = k->b.prefill_tokens,
        .prefill_seconds = k->b.prefill_seconds,
    };
    int err = jr_active_add(bs->active, &a, now_ms);
    if (err < 0)
        return err;
    k->in_active = true;
    if (k->b.prefill_tokens == 0 && k->b.prefill_seconds == 0)
        (void)jr_active_first_token(bs->active, k->key, now_ms, NULL);
    if (k->b.output_blocks && !bs->ignore_output)
        (void)jr_active_output_blocks(bs->active, k->key, k->b.output_blocks, k->output_weight);
    return 0;
}

static size_t block_bytes(uint32_t n)
{
    return (size_t)n * sizeof(uint64_t);
}

static void drop(struct jr_bookings *bs, struct jr_booked *k, uint64_t now_ms)
{
    uncount(bs, k, now_ms);
    jr_map_del(&bs->by_request, k->b.request, NULL);
    jr_list_remove(&k->node);
    jr_members_unref(bs->members, k->member);
    jr_mem_free(bs->mem, (void *)(uintptr_t)k->b.blocks, block_bytes(k->b.n_blocks));
    jr_mem_free(bs->mem, k, sizeof *k);
    bs->n--;
}

void jr_bookings_clear(struct jr_bookings *bs, uint64_t now_ms)
{
    JR_LIST_FOREACH_SAFE (it, &bs->list)
        drop(bs, JR_CONTAINER_OF(it, struct jr_booked, node), now_ms);
}

void jr_bookings_deinit(struct jr_bookings *bs, uint64_t now_ms)
{
    jr_bookings_clear(bs, now_ms);
    jr_map_deinit(&bs->by_request);
}

static int make(struct jr_bookings *bs, const struct jr_booking *b, struct jr_booked **ret)
{
    struct jr_booked *k = jr_mem_zalloc(bs->mem, sizeof *k);
    uint64_t *blocks = b->n_blocks ? jr_mem_alloc(bs->mem, block_bytes(b->n_blocks)) : NULL;
    int err = k && (blocks || !b->n_blocks) ? 0 : JR_ENOMEM;
    if (err == 0)
        err = jr_members_ref(bs->members, b->worker_id, b->dp_rank, &k->member);
    if (err < 0) {
        jr_mem_free(bs->mem, blocks, block_bytes(b->n_blocks));
        jr_mem_free(bs->mem, k, sizeof *k);
        return err;
    }
    if (b->n_blocks)
        memcpy(blocks, b->blocks, block_bytes(b->n_blocks));
    k->b = *b;
    k->b.blocks = blocks;
    k->key = ++*bs->next_key;
    k->output_weight = 1;
    jr_list_init(&k->node);
    *ret = k;
    return 0;
}

static bool same_place(const struct jr_bookings *bs, const struct jr_booked *k,
                       const struct jr_booking *b)
{
    const struct jr_member *m = &bs->members->v[k->member];
    return m->worker_id == b->worker_id && m->dp_rank == b->dp_rank &&
           k->b.n_blocks == b->n_blocks &&
           (!b->n_blocks || memcmp(k->b.blocks, b->blocks, block_bytes(b->n_blocks)) == 0);
}

/* A base repeats what is booked. The booking stays, so that the time its prefill takes is measured
 * from its admission and not from the last base. */
static int repeat(struct jr_bookings *bs, struct jr_booked *k, const struct jr_booking *b,
                  uint64_t now_ms)
{
    if (b->prefill_tokens == 0 && b->prefill_seconds == 0)
        jr_bookings_first_token(bs, b->request, now_ms, NULL);
    jr_bookings_progress(bs, b->request, b->output_blocks, now_ms);
    return bs->counted && !k->in_active ? count(bs, k, now_ms) : 0;
}

int jr_bookings_add(struct jr_bookings *bs, const struct jr_booking *b, uint64_t now_ms,
                    struct jr_booked **ret)
{
    struct jr_booked *k = jr_bookings_find(bs, b->request);
    if (k && same_place(bs, k, b)) {
        if (ret)
            *ret = k;
        return repeat(bs, k, b, now_ms);
    }
    if (k)
        drop(bs, k, now_ms);
    if (bs->n >= JR_REQUESTS_MAX)
        return jr_limit(JR_LIMIT_REQUESTS);
    if (b->n_blocks > JR_PROMPT_BLOCKS_MAX)
        return jr_limit(JR_LIMIT_PROMPT_BLOCKS);
    int err = make(bs, b, &k);
    if (err < 0)
        return err;
    bs->n++;
    jr_list_push_back(&bs->list, &k->node);
    k->progress_at_ms = now_ms;
    err = jr_map_put(&bs->by_request, b->request, (uintptr_t)k);
    if (err == 0 && bs->counted)
        err = count(bs, k, now_ms);
    k->timed = bs->counted;
    if (err < 0) {
        drop(bs, k, now_ms);
        return err;
    }
    if (ret)
        *ret = k;
    return 0;
}

void jr_bookings_first_token(struct jr_bookings *bs, uint64_t request, uint64_t now_ms,
                             struct jr_active_sample *ret_sample)
{
    if (ret_sample)
        *ret_sample = (struct jr_active_sample){0};
    struct jr_booked *k = jr_bookings_find(bs, request);
    if (!k)
        return;
    k->b.prefill_tokens = 0;
    k->b.prefill_seconds = 0;
    touch(bs, k, now_ms);
    if (k->in_active)
        (void)jr_active_first_token(bs->active, k->key, now_ms, ret_sample);
}

void jr_bookings_progress(struct jr_bookings *bs, uint64_t request, uint32_t output_blocks,
                          uint64_t now_ms)
{
    struct jr_booked *k = jr_bookings_find(bs, request);
    if (!k)
        return;
    touch(bs, k, now_ms);
    if (output_blocks <= k->b.output_blocks)
        return;
    k->b.output_blocks = output_blocks;
    if (k->in_active && !bs->ignore_output)
        (void)jr_active_output_blocks(bs->active, k->key, output_blocks, k->output_weight);
}

void jr_bookings_done(struct jr_bookings *bs, uint64_t request, uint64_t now_ms)
{
    struct jr_booked *k = jr_bookings_find(bs, request);
    if (k)
        drop(bs, k, now_ms);
}

void jr_bookings_count(struct jr_bookings *bs, bool counted, uint64_t now_ms)
{
    if (bs->counted == counted)
        return;
    bs->counted = counted;
    JR_LIST_FOREACH (it, &bs->list) {
        struct jr_booked *k = JR_CONTAINER_OF(it, struct jr_booked, node);
        k->timed = false;
        if (!counted)
            uncount(bs, k, now_ms);
        else if (!JR_BUG(LOAD_STAYS_ASIDE))
            (void)count(bs, k,
                        now_ms); /* out of memory: it does not count; the next base retries */
    }
}

uint32_t jr_bookings_sweep(struct jr_bookings *bs, uint32_t generation, uint64_t now_ms)
{
    uint32_t n = 0;
    JR_LIST_FOREACH_SAFE (it, &bs->list) {
        struct jr_booked *k = JR_CONTAINER_OF(it, struct jr_booked, node);
        if (k->generation == generation)
            continue;
        drop(bs, k, now_ms);
        n++;
    }
    return n;
}

uint32_t jr_bookings_expire(struct jr_bookings *bs, uint64_t before_ms, uint64_t now_ms)
{
    uint32_t n = 0;
    while (!jr_list_empty(&bs->list)) {
        struct jr_booked *k = JR_CONTAINER_OF(bs->list.next, struct jr_booked, node);
        if (k->progress_at_ms >= before_ms)
            break;
        drop(bs, k, now_ms);
        n++;
    }
    return n;
}
