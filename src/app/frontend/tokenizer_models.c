/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/tokenizer_models.h"

#include "base/str.h"

#include <string.h>

#define AGE_MS_MAX 3600000
#define LOOK_MS    1000

/* The model's, or the place that it gets. */
static struct jr_token_model *find(struct jr_token_models *m, uint32_t pool_number,
                                   const char *name)
{
    struct jr_token_model *last = &m->v[0];
    for (uint32_t i = 0; i < JR_TOKEN_MODELS_MAX; i++) {
        struct jr_token_model *it = &m->v[i];
        if (it->generation && it->pool_number == pool_number && strcmp(it->name, name) == 0)
            return it;
        if (it->looked_ms < last->looked_ms)
            last = it;
    }
    *last = (struct jr_token_model){.pool_number = pool_number};
    (void)jr_str_copy(last->name, sizeof last->name, name);
    return last;
}

/* Whether its worker serves it still; *ret: one that does, 0: none. */
static bool is_there(const struct jr_token_model *it, struct jr_pool *pool, uint64_t *ret)
{
    struct jr_worker_view w;
    *ret = 0;
    for (uint32_t pos = 0; jr_pool_next_worker(pool, &pos, &w);) {
        if (w.state == JR_WORKER_DOWN || (w.model[0] && strcmp(w.model, it->name) != 0))
            continue;
        if (w.worker_id == it->worker_id)
            return true;
        if (!*ret)
            *ret = w.worker_id;
    }
    return false;
}

uint64_t jr_token_models_generation(struct jr_token_models *m, struct jr_pool *pool,
                                    uint32_t pool_number, const char *name, uint64_t now_ms)
{
    struct jr_token_model *it = find(m, pool_number, name);
    if (it->generation && now_ms - it->looked_ms < LOOK_MS)
        return it->generation;
    uint64_t other;
    bool there = is_there(it, pool, &other);
    it->looked_ms = now_ms;
    if (there && it->generation && now_ms - it->began_ms < AGE_MS_MAX)
        return it->generation;
    it->worker_id = there ? it->worker_id : other;
    it->generation = ++m->generations;
    it->began_ms = now_ms;
    return it->generation;
}
