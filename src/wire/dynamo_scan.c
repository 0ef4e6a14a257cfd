/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/dynamo_scan.h"
#include "base/limits.h"
#include <string.h>

/* The shortest text of one block: how many fit in what is left. */
#define BLOCK_BYTES_MIN (sizeof "{\"block_hash\":0,\"tokens_hash\":0}" - 1)

struct scan {
    const uint8_t *p, *end;
};

/* A fixed piece of text; the compiler makes a few word compares of it. */
#define EAT(s, literal)                                                                            \
    ((size_t)((s)->end - (s)->p) >= sizeof(literal) - 1 &&                                         \
     memcmp((s)->p, literal, sizeof(literal) - 1) == 0 && ((s)->p += sizeof(literal) - 1, true))

/* Eight ASCII digits, the first in the lowest byte. */
static bool eight_digits(const uint8_t *p, uint64_t *ret)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    /* A digit has the high half 3 and stays so when 6 is added. */
    if (((v & UINT64_C(0xf0f0f0f0f0f0f0f0)) |
         (((v + UINT64_C(0x0606060606060606)) & UINT64_C(0xf0f0f0f0f0f0f0f0)) >> 4)) !=
        UINT64_C(0x3333333333333333))
        return false;
    v = (v & UINT64_C(0x0f0f0f0f0f0f0f0f)) * 2561 >> 8;     /* pairs: 10 a + b */
    v = (v & UINT64_C(0x00ff00ff00ff00ff)) * 6553601 >> 16; /* fours */
    *ret = (v & UINT64_C(0x0000ffff0000ffff)) * UINT64_C(42949672960001) >> 32;
    return true;
}

/* JSON's form of a u64: no sign, no leading zero, nothing behind it that would make it another
 * number. */
static bool number(struct scan *s, uint64_t *ret)
{
    const uint8_t *first = s->p;
    uint64_t v = 0, part;

    while (s->end - s->p >= 8 && s->p - first < 16 && eight_digits(s->p, &part)) {
        v = v * 100000000 + part;
        s->p += 8;
    }
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)(*s->p - '0'), &v))
            return false;
        s->p++;
    }
    *ret = v;
    return s->p > first && (*first != '0' || s->p - first == 1);
}

/* An upper bound of the hashes left. */
static size_t commas(const struct scan *s)
{
    size_t n = 0;
    for (const uint8_t *p = s->p; (p = memchr(p, ',', (size_t)(s->end - p))) != NULL; p++)
        n++;
    return n;
}

static int scan_stored(struct scan *s, struct jr_arena *arena, struct jr_kv_event *ret)
{
    if (!EAT(s, "null")) {
        ret->has_parent = true;
        if (!number(s, &ret->parent_hash))
            return JR_EAGAIN;
    }
    if (!EAT(s, ",\"blocks\":["))
        return JR_EAGAIN;
    size_t room = (size_t)(s->end - s->p) / BLOCK_BYTES_MIN + 1, n = 0;
    struct jr_kv_block *blocks = jr_arena_array(arena, room, sizeof *blocks);
    if (!blocks)
        return JR_ENOMEM;
    if (!EAT(s, "]")) {
        do {
            if (n == room || !EAT(s, "{\"block_hash\":") || !number(s, &blocks[n].block_hash) ||
                !EAT(s, ",\"tokens_hash\":") || !number(s, &blocks[n].local_hash))
                return JR_EAGAIN;
            (void)EAT(s, ",\"mm_extra_info\":null");
            if (!EAT(s, "}"))
                return JR_EAGAIN;
            n++;
        } while (EAT(s, ","));
        if (!EAT(s, "]"))
            return JR_EAGAIN;
    }
    if (n > JR_EVENT_BLOCKS_MAX || !EAT(s, "}}"))
        return JR_EAGAIN;
    ret->type = JR_KV_STORED;
    ret->blocks = blocks;
    ret->n = (uint32_t)n;
    return 0;
}

static int scan_removed(struct scan *s, struct jr_arena *arena, struct jr_kv_event *ret)
{
    size_t room = commas(s) + 1, n = 0;

    if (room > JR_EVENT_BLOCKS_MAX) /* the fields behind are counted, too: the parser's */
        room = JR_EVENT_BLOCKS_MAX;
    uint64_t *hashes = jr_arena_array(arena, room, sizeof *hashes);
    if (!hashes)
        return JR_ENOMEM;
    if (!EAT(s, "]")) {
        do {
            if (n == room || !number(s, &hashes[n]))
                return JR_EAGAIN;
            n++;
        } while (EAT(s, ","));
        if (!EAT(s, "]"))
            return JR_EAGAIN;
    }
    if (!EAT(s, "}}"))
        return JR_EAGAIN;
    ret->type = JR_KV_REMOVED;
    ret->hashes = hashes;
    ret->n = (uint32_t)n;
    return 0;
}

static int scan_data(struct scan *s, struct jr_arena *arena, struct jr_kv_event *ret)
{
    if (EAT(s, "{\"stored\":{\"parent_hash\":"))
        return scan_stored(s, arena, ret);
    if (EAT(s, "{\"removed\":{\"block_hashes\":["))
        return scan_removed(s, arena, ret);
    ret->type = JR_KV_CLEARED;
    return EAT(s, "\"cleared\"") ? 0 : JR_EAGAIN;
}

int jr_dynamo_scan(const void *text, size_t n, struct jr_arena *arena, struct jr_kv_batch *ret)
{
    struct scan s = {text, (const uint8_t *)text + n};
    struct jr_kv_batch batch = {.dynamo = true, .n_events = 1};
    uint64_t rank;

    if (n == 0 || !EAT(&s, "{\"worker_id\":") || !number(&s, &batch.worker_id) ||
        !EAT(&s, ",\"event\":{\"event_id\":") || !number(&s, &batch.first_id) ||
        !EAT(&s, ",\"data\":"))
        return JR_EAGAIN;
    struct jr_kv_event *event = jr_arena_alloc(arena, sizeof *event);
    if (!event)
        return JR_ENOMEM;
    *event = (struct jr_kv_event){0};
    int rv = scan_data(&s, arena, event);
    if (rv < 0)
        return rv;
    if (!EAT(&s, ",\"dp_rank\":") || !number(&s, &rank) || rank >= JR_RANKS_MAX || !EAT(&s, "}"))
        return JR_EAGAIN;
    (void)EAT(&s, ",\"storage_tier\":\"device\"");
    if (!EAT(&s, "}") || s.p != s.end)
        return JR_EAGAIN;
    batch.dp_rank = (uint32_t)rank;
    batch.events = event;
    *ret = batch;
    return 0;
}
