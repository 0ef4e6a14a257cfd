/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/worker_last.h"

#include "base/limits.h"

void jr_worker_lasts_init(struct jr_worker_lasts *l)
{
    *l = (struct jr_worker_lasts){0};
    jr_mem_init(&l->mem);
    jr_map_init(&l->at, &l->mem);
}

void jr_worker_lasts_deinit(struct jr_worker_lasts *l)
{
    jr_map_deinit(&l->at);
    jr_arr_free(&l->mem, &l->rows);
    jr_mem_deinit(&l->mem);
}

static uint64_t key_of(uint32_t pool, uint64_t worker_id, uint32_t dp_rank)
{
    return jr_mix64(worker_id ^ jr_mix64((uint64_t)pool << 32 | dp_rank));
}

/* Two keys that are equal take each other's place: it is a gauge. */
static struct jr_worker_last *row_of(struct jr_worker_lasts *l, uint32_t pool, uint64_t worker_id,
                                     uint32_t dp_rank)
{
    uint64_t key = key_of(pool, worker_id, dp_rank), at;
    if (jr_map_get(&l->at, key, &at))
        return &l->rows.v[at];
    if (jr_arr_reserve(&l->mem, &l->rows, 1, JR_WORKERS_MAX) < 0 ||
        jr_map_put(&l->at, key, l->rows.n) < 0)
        return NULL;
    struct jr_worker_last *row = &l->rows.v[l->rows.n++];
    *row = (struct jr_worker_last){
        .pool = pool, .dp_rank = dp_rank, .worker_id = worker_id, .look = l->look};
    return row;
}

void jr_worker_last_first_token(struct jr_worker_lasts *l, uint32_t pool, uint64_t worker_id,
                                uint32_t dp_rank, double ttft_s, uint32_t input_tokens)
{
    struct jr_worker_last *row = row_of(l, pool, worker_id, dp_rank);
    if (!row)
        return;
    row->has_ttft = true;
    row->ttft_s = ttft_s;
    row->input_tokens = input_tokens;
}

void jr_worker_last_tokens(struct jr_worker_lasts *l, uint32_t pool, uint64_t worker_id,
                           uint32_t dp_rank, double itl_s)
{
    struct jr_worker_last *row = row_of(l, pool, worker_id, dp_rank);
    if (!row)
        return;
    row->has_itl = true;
    row->itl_s = itl_s;
}

void jr_worker_lasts_look(struct jr_worker_lasts *l)
{
    l->look++;
}

const struct jr_worker_last *jr_worker_lasts_find(struct jr_worker_lasts *l, uint32_t pool,
                                                  uint64_t worker_id, uint32_t dp_rank)
{
    uint64_t at;
    if (!jr_map_get(&l->at, key_of(pool, worker_id, dp_rank), &at))
        return NULL;
    l->rows.v[at].look = l->look;
    return &l->rows.v[at];
}

static void drop(struct jr_worker_lasts *l, uint32_t i)
{
    const struct jr_worker_last *gone = &l->rows.v[i], *last = &l->rows.v[--l->rows.n];
    (void)jr_map_del(&l->at, key_of(gone->pool, gone->worker_id, gone->dp_rank), NULL);
    if (gone != last) { /* its key is in the map: nothing is allocated */
        l->rows.v[i] = *last;
        (void)!jr_map_put(&l->at, key_of(last->pool, last->worker_id, last->dp_rank), i);
    }
}

void jr_worker_lasts_looked(struct jr_worker_lasts *l)
{
    for (uint32_t i = l->rows.n; i-- > 0;)
        if (l->rows.v[i].look != l->look)
            drop(l, i);
}
