/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_models: how long the ids of a model's texts hold. A model that is deployed anew under its
 * name may tokenize otherwise, and nothing says so; but its workers are others then. So one of its live
 * workers is remembered: when that one is gone or down, or after an hour, a new generation begins.
 * Loop thread only. */
#ifndef JR_APP_FRONTEND_TOKENIZER_MODELS_H
#define JR_APP_FRONTEND_TOKENIZER_MODELS_H

#include "base/limits.h"
#include "core/pool.h"

struct jr_token_model {
    uint32_t pool_number;
    char name[JR_MODEL_MAX];
    uint64_t worker_id; /* 0: none lived */
    uint64_t generation, began_ms, looked_ms;
};

/* Zero-initialised: none is known. Beyond the limit the one that was looked at first makes room. */
struct jr_token_models {
    struct jr_token_model v[JR_TOKEN_MODELS_MAX];
    uint64_t generations;
};

/* Of the ids that are asked for now; never 0, and never that of another model. The pool is looked at
 * once a second at most. */
uint64_t jr_token_models_generation(struct jr_token_models *m, struct jr_pool *pool,
                                    uint32_t pool_number, const char *name, uint64_t now_ms);

#endif
