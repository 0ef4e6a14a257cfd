/* SPDX-License-Identifier: Apache-2.0 */
/* json: a pull reader for small JSON texts on the relay path (reply chunks, tokenizer replies).
 * No allocation, no copy, bounded depth; strict about structure. Pure; any thread.
 *
 *     jr_json_init(&j, p, n);
 *     rv = jr_json_object(&j);
 *     while (rv == 0 && (rv = jr_json_key(&j, &key)) > 0)
 *         rv = jr_str_eq(key, "id") ? jr_json_str(&j, &id) : jr_json_skip(&j);
 *     if (rv == 0) rv = jr_json_end(&j);
 */
#ifndef JR_WIRE_JSON_H
#define JR_WIRE_JSON_H

#include "base/str.h"

#define JR_JSON_DEPTH_MAX 64

struct jr_json {
    const char *p, *end, *start;
    uint64_t first; /* bit per level: no element was read yet */
    unsigned depth;
};

enum jr_json_type {
    JR_JSON_BAD, /* nothing that begins a value */
    JR_JSON_NULL,
    JR_JSON_BOOL,
    JR_JSON_NUMBER,
    JR_JSON_STR,
    JR_JSON_ARRAY,
    JR_JSON_OBJECT,
};

/* All return 0 or JR_EPROTO (malformed, or another type), JR_ETRUNC (the text breaks off),
 * JR_ELIMIT (too deep). After an error the reader may not be used further. */
void jr_json_init(struct jr_json *j, const void *p, size_t n);
enum jr_json_type jr_json_peek(struct jr_json *j);
JR_MUST_CHECK int jr_json_object(struct jr_json *j);
JR_MUST_CHECK int jr_json_array(struct jr_json *j);
/* The next key of the innermost object: 1; or its end, which is consumed: 0. Keys are raw. */
JR_MUST_CHECK int jr_json_key(struct jr_json *j, struct jr_str *ret);
/* Is there a further element in the innermost array: 1; or its end, which is consumed: 0. */
JR_MUST_CHECK int jr_json_item(struct jr_json *j);
/* The inside of a string, escapes untouched; borrows. */
JR_MUST_CHECK int jr_json_str(struct jr_json *j, struct jr_str *ret);
JR_MUST_CHECK int jr_json_bool(struct jr_json *j, bool *ret);
/* Integers only, exact; JR_EPROTO for a sign, a fraction or more than 64 bits. */
JR_MUST_CHECK int jr_json_u64(struct jr_json *j, uint64_t *ret);
JR_MUST_CHECK int jr_json_f64(struct jr_json *j, double *ret);
/* Integers of the innermost array that fit 32 bits, up to max of them: 1 when there may be more, 0
 * behind the array's end. */
JR_MUST_CHECK int jr_json_u32s(struct jr_json *j, uint32_t max, uint32_t *dst, uint32_t *ret_n);
JR_MUST_CHECK int jr_json_skip(struct jr_json *j);
/* Nothing but white space may follow. */
JR_MUST_CHECK int jr_json_end(struct jr_json *j);
/* Bytes consumed, for messages. */
size_t jr_json_at(const struct jr_json *j);

/* The string's text with escapes resolved, appended; JR_EPROTO for a bad escape. */
JR_MUST_CHECK int jr_json_unescape(struct jr_str raw, struct jr_buf *out);

#endif
