/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/tokens.h"

#include "base/limit.h"
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
        if (rv >= 0 && t->n > JR_PROMPT_TOKENS_MAX) {
            return jr_limit(JR_LIMIT_PROMPT_TOKENS);
        }
        if (rv <= 0) {
            return rv;
        }
    }
}

void jr_tokens_write(struct jr_buf *b, const uint32_t *ids, uint32_t n)
{
    char text[4096];
    size_t used = 0;
    text[used++] = '[';
    for (uint32_t i = 0; i < n; i++) {
        if (used + 2 + JR_DIGITS_MAX > sizeof text) {
            jr_buf_put(b, text, used);
            used = 0;
        }
        if (i > 0)
            text[used++] = ',';
        used += jr_digits(ids[i], text + used);
    }
    text[used++] = ']';
    jr_buf_put(b, text, used);
}

/* Goes to the value that is next and says whether it is a list of numbers, by its first. */
static bool at_number_list(struct jr_json *j)
{
    bool is_list = jr_json_peek(j) == JR_JSON_ARRAY;
    struct jr_json inside = *j;
    return is_list && jr_json_array(&inside) == 0 && jr_json_item(&inside) == 1 &&
           jr_json_peek(&inside) == JR_JSON_NUMBER;
}

size_t jr_tokens_find(const void *object, size_t n, const char *key, struct jr_tokens *t,
                      size_t *ret_at)
{
    struct jr_json j;
    struct jr_str name;
    t->n = 0;
    jr_json_init(&j, object, n);
    int rv = jr_json_object(&j);
    while (rv == 0 && (rv = jr_json_key(&j, &name)) > 0 && !jr_str_eq(name, key)) {
        rv = jr_json_skip(&j);
    }
    if (rv <= 0 || !at_number_list(&j)) {
        return 0;
    }
    *ret_at = jr_json_at(&j);
    if (jr_tokens_read(&j, t) < 0) {
        t->n = 0;
        return 0;
    }
    return jr_json_at(&j) - *ret_at;
}
