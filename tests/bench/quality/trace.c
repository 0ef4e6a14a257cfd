/* SPDX-License-Identifier: Apache-2.0 */
#include "trace.h"
#include "base/map.h"
#include "base/rng.h"
#include "core/hash.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDS_BLOCKS 8 /* of 64 tokens in a hash id */
#define TICK_MAX_S 3.1
#define TICK_MIN_S 0.25

static void fail(const char *path, const char *why)
{
    (void)fprintf(stderr, "%s: %s\n", path, why);
    exit(64);
}

/* Ids mean a prefix only together with those before them. */
static uint32_t chain(struct jr_map *map, uint32_t parent, uint64_t id, uint32_t *n)
{
    uint64_t key = jr_mix64(jr_mix64(parent) + id), value;
    if (jr_map_get(map, key, &value))
        return (uint32_t)value;
    value = ++*n; /* 0 is the root */
    if (jr_map_put(map, key, value) < 0)
        abort();
    return (uint32_t)value;
}

static uint32_t *parse_ids(const char *text, uint32_t blocks, struct jr_map *map,
                           uint32_t *n_chained)
{
    uint32_t *nodes = jr_xalloc((blocks + IDS_BLOCKS) * sizeof *nodes);
    uint32_t at = 0, chained = 0;
    while (at < blocks) {
        char *end;
        unsigned long long id = strtoull(text, &end, 10);
        if (end == text)
            break;
        chained = chain(map, chained, id, n_chained);
        for (uint32_t i = 0; i < IDS_BLOCKS; i++)
            nodes[at++] = (chained - 1) * IDS_BLOCKS + i;
        text = *end == ',' ? end + 1 : end;
    }
    nodes[blocks] = at < blocks ? at : blocks; /* how many there are */
    return nodes;
}

static bool parse(const char *line, struct q_request *r, struct jr_map *map, uint32_t *n_chained)
{
    double ms;
    int isl, osl;
    const char *ids = strchr(line, '[');
    if (!ids || sscanf(line, "{\"timestamp\": %lf, \"input_length\": %d, \"output_length\": %d",
                       &ms, &isl, &osl) != 3)
        return false;
    if (ms < 0 || isl < 1 || isl > 1 << 24 || osl > 1 << 24)
        return false;
    *r = (struct q_request){.trace_s = ms / 1000, .isl = (uint32_t)isl};
    r->osl = osl > 0 ? (uint32_t)osl : 1;
    uint32_t blocks = r->isl / Q_BLOCK;
    uint32_t *nodes = parse_ids(ids + 1, blocks, map, n_chained);
    r->n_blocks = nodes[blocks];
    r->nodes = nodes;
    return true;
}

static void hash_nodes(struct q_trace *t)
{
    t->node_local = jr_xalloc(t->n_nodes * sizeof *t->node_local);
    t->node_hash = jr_xalloc(t->n_nodes * sizeof *t->node_hash);
    for (uint32_t i = 0; i < t->n_nodes; i++)
        t->node_local[i] = jr_mix64(i + 1);
    for (uint32_t i = 0; i < t->n; i++) {
        struct q_request *r = &t->v[i];
        uint64_t *prefix = jr_xalloc((r->n_blocks + 1) * sizeof *prefix);
        for (uint32_t k = 0; k < r->n_blocks; k++)
            prefix[k] = t->node_local[r->nodes[k]];
        jr_hash_prefix(prefix, r->n_blocks, prefix);
        for (uint32_t k = 0; k < r->n_blocks; k++)
            t->node_hash[r->nodes[k]] = prefix[k];
        r->prefix = prefix;
    }
}

void q_trace_load(struct q_trace *t, const char *path)
{
    FILE *f = fopen(path, "r");
    struct jr_mem mem;
    struct jr_map map;
    char *line = NULL;
    size_t line_cap = 0;
    uint32_t cap = 0, n_chained = 0;
    if (!f)
        fail(path, "cannot be opened");
    jr_mem_init(&mem);
    jr_map_init(&map, &mem);
    *t = (struct q_trace){0};
    while (getline(&line, &line_cap, f) > 0) {
        if (t->n == cap) {
            cap = cap ? 2 * cap : 1024;
            t->v = jr_xrealloc(t->v, cap * sizeof *t->v);
        }
        if (!parse(line, &t->v[t->n], &map, &n_chained))
            fail(path, "has a line that is not a request");
        t->n++;
    }
    if (t->n == 0)
        fail(path, "has no requests");
    t->n_nodes = n_chained * IDS_BLOCKS + 1;
    hash_nodes(t);
    jr_map_deinit(&map);
    jr_mem_deinit(&mem);
    free(line);
    (void)fclose(f);
}

void q_trace_free(struct q_trace *t)
{
    for (uint32_t i = 0; i < t->n; i++) {
        jr_xfree((void *)(uintptr_t)t->v[i].nodes);
        jr_xfree((void *)(uintptr_t)t->v[i].prefix);
    }
    jr_xfree(t->v);
    jr_xfree(t->node_local);
    jr_xfree(t->node_hash);
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The clock of the trace ticks every 3 s: what came in a tick is spread evenly over it. */
static void spread(struct q_trace *t, double speed, struct jr_rng *rng)
{
    double *u = jr_xalloc(t->n * sizeof *u);
    for (uint32_t i = 0, end; i < t->n; i = end) {
        for (end = i; end < t->n && t->v[end].trace_s <= t->v[i].trace_s; end++)
            ;
        double span = end < t->n ? t->v[end].trace_s - t->v[i].trace_s : 1;
        if (span > TICK_MAX_S)
            span = TICK_MAX_S;
        if (span < TICK_MIN_S)
            span = TICK_MIN_S;
        for (uint32_t k = i; k < end; k++)
            u[k - i] = jr_rng_unit(rng) * span;
        qsort(u, end - i, sizeof *u, by_double);
        for (uint32_t k = i; k < end; k++)
            t->v[k].arrival_s = (t->v[k].trace_s + u[k - i]) / speed;
    }
    jr_xfree(u);
}

void q_trace_prepare(struct q_trace *t, double speed, uint64_t seed)
{
    struct jr_rng rng;
    jr_rng_init(&rng, seed, 2);
    spread(t, speed, &rng);
    for (uint32_t i = 0; i < t->n; i++) {
        struct q_request *r = &t->v[i];
        if (i > 0 && r->arrival_s < r[-1].arrival_s)
            r->arrival_s = r[-1].arrival_s;
        r->hit = r->done = r->out = r->pinned = r->unshared = r->times_answered = 0;
        r->next = 0;
        r->first_s = r->end_s = 0;
    }
}
