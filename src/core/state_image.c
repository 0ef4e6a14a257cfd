/* SPDX-License-Identifier: Apache-2.0 */
/* State to image and back, in slices. Header and rank table are copied at once, the index copies its
 * entries before it changes them (core/index_image.c), so the image is of one sequence. */
#include "core/state.h"

#include "base/assert.h"
#include "base/bug.h"

#include <stdlib.h>
#include <string.h>

#define PIECE_COST 512 /* of making a piece of a table ready, in entries */

/* Fills the rank table, sorted by (worker, rank), so that equal states give equal images. */
static int compare_ranks(const void *a, const void *b)
{
    const struct jr_image_rank *x = a, *y = b;
    if (x->worker_id != y->worker_id)
        return x->worker_id < y->worker_id ? -1 : 1;
    return (x->dp_rank > y->dp_rank) - (x->dp_rank < y->dp_rank);
}

static void fill_ranks(const struct jr_state *s, struct jr_image *image)
{
    image->ranks = jr_xalloc((size_t)(s->n_ranks ? s->n_ranks : 1) * sizeof *image->ranks);
    for (uint32_t m = 0; m < s->ranks.n; m++) {
        const struct jr_state_rank *r = &s->ranks.v[m];
        if (!r->present)
            continue;
        image->ranks[image->n_ranks++] = (struct jr_image_rank){
            .worker_id = s->members->v[m].worker_id,
            .dp_rank = s->members->v[m].dp_rank,
            .waiting = r->waiting,
            .incarnation = r->incarnation,
            .newest_id = r->newest_id,
            .has_id = r->has_id,
        };
    }
    qsort(image->ranks, image->n_ranks, sizeof *image->ranks, compare_ranks);
}

static void fill_header(const struct jr_state *s, struct jr_image *image)
{
    image->format = 1;
    image->rule_version = s->rule_version;
    image->params = s->params;
    image->epoch = s->epoch;
    memcpy(image->reset_token, s->reset_token, sizeof image->reset_token);
    image->digest_blocks = jr_state_digest_blocks(s);
    image->digest_table = jr_state_digest_table(s);
    image->seq = s->seq;
    image->msg_time_ns = s->msg_time_ns;
    image->msg_hash = s->msg_hash;
    image->dropped_unknown_parent = s->counters.dropped_unknown_parent;
    image->dropped_stale = s->counters.dropped_stale;
    image->dropped_hole = s->counters.dropped_hole;
    image->undecodable = s->counters.undecodable;
    image->refused_cap = s->counters.refused_cap;
    image->skipped = s->counters.skipped;
}

/* Rows of the image's rank table, by member. */
static int number_ranks(const struct jr_state *s, struct jr_image *image, uint32_t **ret)
{
    uint32_t *number = jr_mem_zalloc(s->mem, (s->ranks.n + 1) * sizeof *number);
    if (!number)
        return JR_ENOMEM;
    for (uint32_t i = 0; i < image->n_ranks; i++) {
        struct jr_image_rank *r = &image->ranks[i];
        uint32_t m = jr_members_find(s->members, r->worker_id, r->dp_rank);
        r->n_entries = jr_index_member_entries(s->index, m);
        number[m] = i;
    }
    *ret = number;
    return 0;
}

int jr_state_export_begin(struct jr_state *s, struct jr_state_export *x)
{
    struct jr_image *image = jr_image_create();
    uint32_t *number = NULL;
    fill_header(s, image);
    fill_ranks(s, image);
    int err = number_ranks(s, image, &number);
    if (err == 0)
        err = jr_index_image_open(s->index, image, number);
    jr_mem_free(s->mem, number, (s->ranks.n + 1) * sizeof *number);
    if (err < 0) {
        jr_image_destroy(image);
        return err;
    }
    x->image = image;
    return 0;
}

int jr_state_export_step(struct jr_state *s, struct jr_state_export *x, uint32_t max)
{
    return jr_index_image_step(s->index, max, x->image);
}

struct jr_image *jr_state_export_take(struct jr_state_export *x)
{
    struct jr_image *image = x->image;
    x->image = NULL;
    return image;
}

struct jr_image *jr_state_export_abort(struct jr_state *s, struct jr_state_export *x)
{
    if (x->image)
        jr_index_image_close(s->index, x->image);
    return jr_state_export_take(x);
}

/* ---------------------------------------------------------------- image in */

static int import_rank(struct jr_state *s, const struct jr_image_rank *row, uint32_t *ret)
{
    bool made;
    int err = jr_state_make_rank(s, row->worker_id, row->dp_rank, ret, &made);
    if (err < 0)
        return err;
    if (!made) /* twice in the table */
        return JR_ECORRUPT;
    struct jr_state_rank *r = &s->ranks.v[*ret];
    if (JR_BUG(SNAPSHOT_NO_TABLE))
        return 0;
    r->waiting = row->waiting;
    r->has_id = row->has_id;
    r->incarnation = row->incarnation;
    r->newest_id = row->newest_id;
    return 0;
}

static void import_header(struct jr_state *s, const struct jr_image *image)
{
    s->rule_version = image->rule_version;
    s->params = image->params;
    jr_index_set_entries_max(s->index, image->params.index_entries_max);
    s->epoch = image->epoch;
    memcpy(s->reset_token, image->reset_token, sizeof s->reset_token);
    s->reset_token[sizeof s->reset_token - 1] = '\0';
    s->seq = image->seq;
    s->msg_time_ns = image->msg_time_ns;
    s->msg_hash = image->msg_hash;
    s->counters = (struct jr_state_counters){
        .dropped_unknown_parent = image->dropped_unknown_parent,
        .dropped_stale = image->dropped_stale,
        .dropped_hole = image->dropped_hole,
        .undecodable = image->undecodable,
        .refused_cap = image->refused_cap,
        .skipped = image->skipped,
    };
}

int jr_state_import_begin(struct jr_state *s, struct jr_state_import *x,
                          const struct jr_image *image)
{
    JR_ASSERT(s->seq == 0 && s->n_ranks == 0);
    if (image->rule_version > s->rules_max)
        return JR_EVERSION;
    *x = (struct jr_state_import){.image = image, .at = JR_INDEX_NOWHERE};
    size_t bytes = (size_t)(image->n_ranks ? image->n_ranks : 1) * sizeof *x->member_of_rank;
    x->member_of_rank = jr_mem_zalloc(s->mem, bytes);
    if (!x->member_of_rank)
        return JR_ENOMEM;
    import_header(s, image);
    for (uint32_t i = 0; i < image->n_ranks; i++) {
        int err = import_rank(s, &image->ranks[i], &x->member_of_rank[i]);
        if (err < 0) {
            jr_state_import_end(s, x);
            return err;
        }
    }
    return 0;
}

/* The tables, a piece of memory at a time. */
static int presize(struct jr_state *s, struct jr_state_import *x, uint32_t *max)
{
    while (x->next_rank<x->image->n_ranks && * max> 0) {
        int err = jr_index_presize(s->index, x->member_of_rank[x->next_rank],
                                   x->image->ranks[x->next_rank].n_entries);
        if (err < 0 && err != JR_EAGAIN)
            return err;
        x->next_rank += err == 0;
        *max -= *max < PIECE_COST ? *max : PIECE_COST;
    }
    return 0;
}

int jr_state_import_step(struct jr_state *s, struct jr_state_import *x, uint32_t max)
{
    const struct jr_image *image = x->image;
    const struct jr_image_entry *e = image->entries + x->next;
    uint64_t left = image->n_entries - x->next;
    int err = presize(s, x, &max);
    if (err < 0)
        return err;
    uint32_t n = left < max ? (uint32_t)left : max;
    for (uint32_t i = 0; i < n; i++)
        if (e[i].rank >= image->n_ranks)
            return JR_ECORRUPT;
    err = jr_index_restore_run(s->index, e, n, x->member_of_rank, &x->at);
    if (err < 0)
        return err;
    x->next += n;
    if (x->next_rank < image->n_ranks || x->next < image->n_entries)
        return JR_EAGAIN;
    jr_state_recount(s);
    if (jr_state_digest_blocks(s) != image->digest_blocks ||
        (jr_state_digest_table(s) != image->digest_table && !JR_BUG(SNAPSHOT_NO_TABLE)))
        return JR_ECORRUPT;
    jr_state_record_point(s);
    return 0;
}

void jr_state_import_end(struct jr_state *s, struct jr_state_import *x)
{
    if (!x->member_of_rank)
        return;
    uint32_t n = x->image->n_ranks ? x->image->n_ranks : 1;
    jr_mem_free(s->mem, x->member_of_rank, (size_t)n * sizeof *x->member_of_rank);
    *x = (struct jr_state_import){0};
}
