/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/tokenizer_templates.h"

static bool equal(struct jr_token_key a, struct jr_token_key b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

void jr_token_templates_distrust(struct jr_token_templates *t, struct jr_token_key key,
                                 uint64_t until_ms)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < JR_TOKEN_TEMPLATES_MAX; i++) {
        if (t->v[i].until_ms && equal(t->v[i].key, key)) {
            at = i;
            break;
        }
        if (t->v[i].until_ms < t->v[at].until_ms)
            at = i;
    }
    t->v[at].key = key;
    t->v[at].until_ms = until_ms;
}

bool jr_token_templates_trusted(const struct jr_token_templates *t, struct jr_token_key key,
                                uint64_t now_ms)
{
    for (uint32_t i = 0; i < JR_TOKEN_TEMPLATES_MAX; i++) {
        if (now_ms < t->v[i].until_ms && equal(t->v[i].key, key))
            return false;
    }
    return true;
}
