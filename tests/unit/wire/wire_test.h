/* SPDX-License-Identifier: Apache-2.0 */
/* wire_test: what the codec tests share: hex goldens and random values of the vocabulary. */
#ifndef JR_WIRE_TEST_H
#define JR_WIRE_TEST_H

#include "base/buf.h"
#include "base/kv.h"
#include "base/limits.h"
#include "base/rng.h"
#include "base/str.h"
#include "jr_test.h"
#include "wire/arena.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The bytes are the golden text; else both are printed. */
static inline void assert_hex(const void *p, size_t n, const char *want)
{
    char *got = jr_xalloc(2 * n + 1);
    for (size_t i = 0; i < n; i++)
        snprintf(got + 2 * i, 3, "%02x", ((const uint8_t *)p)[i]);
    assert_string_equal(got, want);
    jr_xfree(got);
}

/* Hex text to bytes (returns owned). */
static inline uint8_t *unhex(const char *text, size_t *ret_n)
{
    size_t n = strlen(text) / 2;
    uint8_t *p = jr_xalloc(n + 1);
    for (size_t i = 0; i < n; i++) {
        unsigned v = 0;
        assert_int_equal(sscanf(text + 2 * i, "%2x", &v), 1);
        p[i] = (uint8_t)v;
    }
    *ret_n = n;
    return p;
}

static inline uint64_t random_u64(struct jr_rng *r)
{
    static const uint64_t edges[] = {0, 1, UINT64_MAX, UINT64_C(1) << 63, 127, 128, UINT32_MAX};
    return jr_rng_below(r, 4) ? jr_rng_u64(r) : edges[jr_rng_below(r, 7)];
}

static inline struct jr_kv_event random_event(struct jr_rng *r, struct jr_arena *a)
{
    struct jr_kv_event e = {.type = (enum jr_kv_type)(1 + jr_rng_below(r, 3))};
    e.n = e.type == JR_KV_CLEARED ? 0 : jr_rng_below(r, jr_rng_below(r, 8) ? 6 : 300);
    struct jr_kv_block *blocks = jr_arena_array(a, e.n, sizeof *blocks);
    uint64_t *hashes = jr_arena_array(a, e.n, sizeof *hashes);
    for (uint32_t i = 0; i < e.n; i++) {
        blocks[i] = (struct jr_kv_block){random_u64(r), random_u64(r)};
        hashes[i] = random_u64(r);
    }
    if (e.type == JR_KV_STORED) {
        e.blocks = blocks;
        e.has_parent = jr_rng_below(r, 2);
        e.parent_hash = e.has_parent ? random_u64(r) : 0;
    } else if (e.type == JR_KV_REMOVED) {
        e.hashes = hashes;
    }
    return e;
}

static inline struct jr_kv_batch random_batch(struct jr_rng *r, struct jr_arena *a)
{
    struct jr_kv_batch b = {
        .worker_id = random_u64(r),
        .dp_rank = jr_rng_below(r, JR_RANKS_MAX),
        .incarnation = jr_rng_u64(r) | 1,
        .first_id = jr_rng_u64(r) >> (1 + jr_rng_below(r, 63)),
        .begin = jr_rng_below(r, 2),
        .n_events = jr_rng_below(r, 20),
    };
    struct jr_kv_event *events = jr_arena_array(a, b.n_events, sizeof *events);
    for (uint32_t i = 0; i < b.n_events; i++)
        events[i] = random_event(r, a);
    b.events = events;
    return b;
}

static inline void assert_events_equal(const struct jr_kv_event *x, const struct jr_kv_event *y)
{
    assert_int_equal(x->type, y->type);
    assert_int_equal(x->has_parent, y->has_parent);
    assert_true(x->parent_hash == y->parent_hash);
    assert_int_equal(x->n, y->n);
    if (x->n && x->type == JR_KV_STORED)
        assert_memory_equal(x->blocks, y->blocks, x->n * sizeof *x->blocks);
    if (x->n && x->type == JR_KV_REMOVED)
        assert_memory_equal(x->hashes, y->hashes, x->n * sizeof *x->hashes);
}

static inline void assert_batches_equal(const struct jr_kv_batch *x, const struct jr_kv_batch *y)
{
    assert_true(x->worker_id == y->worker_id);
    assert_int_equal(x->dp_rank, y->dp_rank);
    assert_true(x->incarnation == y->incarnation);
    assert_true(x->first_id == y->first_id);
    assert_int_equal(x->begin, y->begin);
    assert_int_equal(x->dynamo, y->dynamo);
    assert_int_equal(x->n_events, y->n_events);
    for (uint32_t i = 0; i < x->n_events; i++)
        assert_events_equal(&x->events[i], &y->events[i]);
}

/* A copy at the very end of a heap block, so that a sanitizer sees a read behind it. */
static inline uint8_t *tight_copy(const void *p, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    if (n)
        memcpy(copy, p, n);
    return copy;
}

#endif
