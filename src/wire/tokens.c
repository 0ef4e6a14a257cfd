/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/tokens.h"
#include "wire/json.h"

int jr_tokens_read(struct jr_json *j, struct jr_tokens *t)
{
    int rv = jr_json_array(j);
    if (rv < 0) {
        return rv;
    }
    for (;;) {
        rv = jr_arr_reserve(t->mem, t, 256, JR_PROMPT_TOKENS_MAX + 256);
        if (rv < 0) {
            return rv;
        }
        uint32_t n = 0;
        rv = jr_json_u32s(j, t->cap - t->n, t->v + t->n, &n);
        t->n += n;
        if (rv <= 0) {
            return rv;
        }
        if (t->n > JR_PROMPT_TOKENS_MAX) {
            return JR_ELIMIT;
        }
    }
}
