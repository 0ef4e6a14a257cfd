/* SPDX-License-Identifier: Apache-2.0 */
/* tokens: a growable array of token ids, bounded by JR_PROMPT_TOKENS_MAX. One thread at a time;
 * keep one per connection or loop and reuse it, so that the routing path stops allocating. */
#ifndef JR_WIRE_TOKENS_H
#define JR_WIRE_TOKENS_H

#include "base/arr.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"

struct jr_json;

struct jr_tokens {
    struct jr_mem *mem; /* borrowed; must outlive the array */
    JR_ARR_FIELDS(uint32_t);
};

static inline void jr_tokens_init(struct jr_tokens *t, struct jr_mem *mem)
{
    t->mem = mem;
    t->v = NULL;
    t->n = t->cap = 0;
}

static inline void jr_tokens_deinit(struct jr_tokens *t)
{
    if (t->mem != NULL) {
        jr_arr_free(t->mem, t);
    }
}

/* The ids of the array that comes next in j, appended. JR_EPROTO, JR_ETRUNC: it is no list of whole
 * numbers of 32 bits; JR_ELIMIT, JR_ENOMEM. */
JR_MUST_CHECK int jr_tokens_read(struct jr_json *j, struct jr_tokens *t);

/* The ids as a JSON array, fast. Appends; check b->err. */
void jr_tokens_write(struct jr_buf *b, const uint32_t *ids, uint32_t n);

/* Looks in a JSON object for the first key of that name; when its value is a list of whole numbers,
 * they are in t afterwards. Returns the list's length in bytes, *ret_at where it begins; 0 and t empty
 * when there is none, for whatever reason. What follows the list is not looked at. */
size_t jr_tokens_find(const void *object, size_t n, const char *key, struct jr_tokens *t,
                      size_t *ret_at);

#endif
