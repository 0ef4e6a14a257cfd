/* SPDX-License-Identifier: Apache-2.0 */
#include "app/driver/dynamo_export.h"

#include "base/map.h"
#include "core/hash.h"
#include "wire/dynamo_snapshot.h"

#include <stdlib.h>

#define STEP_EVENTS 1024       /* of 58 or 66 bytes */
#define CUT         UINT32_MAX /* a depth: no way to the root is known */

/* A block, whoever holds it. */
struct node {
    uint64_t parent; /* prefix hash */
    uint64_t local;
    uint32_t depth; /* 1 for a first block; 0: not looked at yet, or CUT */
    bool known, first;
};

struct jr_dynamo_export {
    const struct jr_image *image;
    struct jr_mem mem;
    struct jr_map *rows; /* by row of the image: block hash -> prefix hash; once sealed the reverse,
                            of what is written */
    struct jr_map at;    /* prefix hash -> its node */
    struct node *nodes;
    uint64_t n_nodes;
    uint64_t *order; /* entries, as they are written */
    uint64_t n_order, next;
    uint64_t n_lower; /* entries of rows that Dynamo has no word for */
    bool begun;
};

static void clear_rows(struct jr_dynamo_export *x)
{
    for (uint32_t i = 0; i < x->image->n_ranks; i++) {
        jr_map_deinit(&x->rows[i]);
        jr_map_init(&x->rows[i], &x->mem);
    }
}

static int add_entry(struct jr_dynamo_export *x, const struct jr_image_entry *e)
{
    uint64_t at;
    if (e->rank >= x->image->n_ranks)
        return JR_ECORRUPT;
    if (!jr_map_get(&x->at, e->prefix_hash, &at)) {
        int err = jr_map_put(&x->at, e->prefix_hash, x->n_nodes++);
        if (err < 0)
            return err;
    }
    return jr_map_put(&x->rows[e->rank], e->block_hash, e->prefix_hash);
}

int jr_dynamo_export_create(const struct jr_image *image, struct jr_dynamo_export **ret)
{
    struct jr_dynamo_export *x = jr_xalloc(sizeof *x);
    *x = (struct jr_dynamo_export){.image = image};
    jr_mem_init(&x->mem);
    jr_map_init(&x->at, &x->mem);
    x->rows = jr_xalloc((size_t)(image->n_ranks + 1) * sizeof *x->rows);
    for (uint32_t i = 0; i < image->n_ranks; i++)
        jr_map_init(&x->rows[i], &x->mem);
    for (uint64_t i = 0; i < image->n_entries; i++) {
        int err = add_entry(x, &image->entries[i]);
        if (err < 0) {
            jr_dynamo_export_destroy(x);
            return err;
        }
    }
    x->nodes = jr_xalloc((size_t)(x->n_nodes + 1) * sizeof *x->nodes);
    *ret = x;
    return 0;
}

void jr_dynamo_export_destroy(struct jr_dynamo_export *x)
{
    if (!x)
        return;
    for (uint32_t i = 0; i < x->image->n_ranks; i++)
        jr_map_deinit(&x->rows[i]);
    jr_xfree(x->rows);
    jr_map_deinit(&x->at);
    jr_xfree(x->nodes);
    jr_xfree(x->order);
    jr_mem_deinit(&x->mem);
    jr_xfree(x);
}

/* ---------------------------------------------------------------- learning */

struct row_key {
    uint64_t worker_id;
    uint32_t dp_rank;
};

static int compare_row(const void *a, const void *b)
{
    const struct row_key *k = a;
    const struct jr_image_rank *r = b;
    if (k->worker_id != r->worker_id)
        return k->worker_id < r->worker_id ? -1 : 1;
    return (k->dp_rank > r->dp_rank) - (k->dp_rank < r->dp_rank);
}

static const struct jr_image_rank *find_row(const struct jr_image *image, uint64_t worker_id,
                                            uint32_t dp_rank)
{
    struct row_key key = {worker_id, dp_rank};
    return image->n_ranks
               ? bsearch(&key, image->ranks, image->n_ranks, sizeof *image->ranks, compare_row)
               : NULL;
}

static void learn_run(struct jr_dynamo_export *x, const struct jr_map *row,
                      const struct jr_kv_event *e)
{
    uint64_t prev = 0, at;
    if (e->has_parent && !jr_map_get(row, e->parent_hash, &prev))
        return; /* the rank does not hold it now: nor can what is below be written for it */
    for (uint32_t i = 0; i < e->n; i++) {
        uint64_t local = e->blocks[i].local_hash;
        bool first = i == 0 && !e->has_parent;
        uint64_t prefix = first ? local : jr_hash_chain(prev, local);
        if (jr_map_get(&x->at, prefix, &at) && !x->nodes[at].known)
            x->nodes[at] =
                (struct node){.parent = prev, .local = local, .known = true, .first = first};
        prev = prefix;
    }
}

void jr_dynamo_export_learn(struct jr_dynamo_export *x, const struct jr_kv_batch *batch)
{
    const struct jr_image *image = x->image;
    const struct jr_image_rank *r = find_row(image, batch->worker_id, batch->dp_rank);
    if (!r)
        return;
    for (uint32_t i = 0; i < batch->n_events; i++)
        if (batch->events[i].type == JR_KV_STORED)
            learn_run(x, &x->rows[r - image->ranks], &batch->events[i]);
}

/* ---------------------------------------------------------------- order */

/* The depth of the nearest block on the way to the root that has one, and how far it is. More steps
 * than there are blocks are a circle. */
static uint32_t climb(const struct jr_dynamo_export *x, uint64_t i, uint64_t *ret_steps)
{
    for (*ret_steps = 0; *ret_steps <= x->n_nodes; (*ret_steps)++) {
        const struct node *n = &x->nodes[i];
        if (n->depth)
            return n->depth;
        if (!n->known)
            return CUT;
        if (n->first)
            return 1;
        if (!jr_map_get(&x->at, n->parent, &i))
            return CUT;
    }
    return CUT;
}

static void measure(struct jr_dynamo_export *x, uint64_t i)
{
    uint64_t steps;
    uint32_t base = climb(x, i, &steps);
    while (!x->nodes[i].depth) {
        struct node *n = &x->nodes[i];
        n->depth = base == CUT ? CUT : base + (uint32_t)steps--;
        if (!n->known || n->first || !jr_map_get(&x->at, n->parent, &i))
            return;
    }
}

static const struct node *node_of(const struct jr_dynamo_export *x, const struct jr_image_entry *e)
{
    uint64_t at = 0;
    (void)jr_map_get(&x->at, e->prefix_hash, &at); /* each entry's is there */
    return &x->nodes[at];
}

/* Counting sort of the entries by depth; those that are cut off stay out. */
static void sort(struct jr_dynamo_export *x)
{
    const struct jr_image *image = x->image;
    uint32_t deepest = 0;
    for (uint64_t i = 0; i < x->n_nodes; i++) {
        measure(x, i);
        if (x->nodes[i].depth != CUT && x->nodes[i].depth > deepest)
            deepest = x->nodes[i].depth;
    }
    uint64_t *from = jr_xalloc(((size_t)deepest + 2) * sizeof *from);
    for (uint64_t i = 0; i < image->n_entries; i++) {
        uint32_t depth = node_of(x, &image->entries[i])->depth;
        if (depth != CUT)
            from[depth + 1]++;
    }
    for (uint32_t d = 1; d <= deepest + 1; d++)
        from[d] += from[d - 1];
    x->n_order = from[deepest + 1];
    x->order = jr_xalloc((size_t)(x->n_order + 1) * sizeof *x->order);
    for (uint64_t i = 0; i < image->n_entries; i++) {
        uint32_t depth = node_of(x, &image->entries[i])->depth;
        if (depth != CUT)
            x->order[from[depth]++] = i;
    }
    jr_xfree(from);
}

/* A row that tells of lower media (base/kv.h): to Dynamo, which knows none, it would be a rank. */
static bool is_lower(const struct jr_image *image, const struct jr_image_rank *row)
{
    for (uint32_t i = 0; i < JR_LOWERS; i++) {
        uint32_t of = row->dp_rank - jr_lower_row(0, (enum jr_lower)i);
        const struct jr_image_rank *rank =
            of < JR_LOWER_STEP ? find_row(image, row->worker_id, of) : NULL;
        if (rank && row->incarnation && rank->incarnation == row->incarnation)
            return true;
    }
    return false;
}

/* What a rank holds in an unbroken row from the root. A prefix that it holds under several names has
 * the first of them as the parent of what follows. */
static int keep_held(struct jr_dynamo_export *x)
{
    uint64_t kept = 0, name;
    for (uint64_t i = 0; i < x->n_order; i++) {
        const struct jr_image_entry *e = &x->image->entries[x->order[i]];
        const struct node *n = node_of(x, e);
        struct jr_map *row = &x->rows[e->rank];
        if (is_lower(x->image, &x->image->ranks[e->rank])) {
            x->n_lower++;
            continue;
        }
        if (!n->first && !jr_map_get(row, n->parent, &name))
            continue;
        if (!jr_map_get(row, e->prefix_hash, &name)) {
            int err = jr_map_put(row, e->prefix_hash, e->block_hash);
            if (err < 0)
                return err;
        }
        x->order[kept++] = x->order[i];
    }
    x->n_order = kept;
    return 0;
}

int jr_dynamo_export_seal(struct jr_dynamo_export *x, uint64_t *ret_events, uint64_t *ret_left_out)
{
    clear_rows(x);
    sort(x);
    int err = keep_held(x);
    *ret_events = x->n_order;
    *ret_left_out = x->image->n_entries - x->n_order - x->n_lower;
    return err;
}

/* ---------------------------------------------------------------- writing */

static int write_entry(const struct jr_dynamo_export *x, uint64_t id, struct jr_buf *b)
{
    const struct jr_image_entry *e = &x->image->entries[x->order[id]];
    const struct node *n = node_of(x, e);
    const struct jr_image_rank *rank = &x->image->ranks[e->rank];
    struct jr_kv_block block = {.block_hash = e->block_hash, .local_hash = n->local};
    struct jr_kv_event event = {
        .type = JR_KV_STORED, .has_parent = !n->first, .blocks = &block, .n = 1};
    struct jr_kv_batch batch = {.dynamo = true,
                                .worker_id = rank->worker_id,
                                .dp_rank = rank->dp_rank,
                                .first_id = id,
                                .events = &event,
                                .n_events = 1};
    if (event.has_parent)
        (void)jr_map_get(&x->rows[e->rank], n->parent, &event.parent_hash);
    return jr_dynamo_snapshot_write(&batch, 0, b);
}

int jr_dynamo_export_step(struct jr_dynamo_export *x, struct jr_buf *b, bool *ret_done)
{
    int err = x->begun ? 0 : jr_dynamo_snapshot_write_count(x->n_order, b);
    x->begun = true;
    for (uint32_t i = 0; err == 0 && i < STEP_EVENTS && x->next < x->n_order; i++)
        err = write_entry(x, x->next++, b);
    *ret_done = x->next == x->n_order;
    return err;
}
