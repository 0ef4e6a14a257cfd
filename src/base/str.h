/* SPDX-License-Identifier: Apache-2.0 */
/* str: small text helpers that more than one layer needs. Pure. */
#ifndef JR_BASE_STR_H
#define JR_BASE_STR_H

#include "base/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A view of text that is not NUL-terminated. Borrows. */
struct jr_str {
    const char *p;
    size_t n;
};

static inline struct jr_str jr_str_of(const char *p, size_t n)
{
    return (struct jr_str){p, n};
}
bool jr_str_eq(struct jr_str s, const char *text);
bool jr_str_ieq(struct jr_str s, const char *text); /* ASCII case-insensitive */

/* Dynamo's slug (lib/runtime/src/slug.rs, v1.0) and then '_' to '-': lower case, [a-z0-9-] kept, all
 * else '-', leading '_' of the slug dropped. dst gets at most cap-1 bytes and a NUL; JR_ELIMIT. */
JR_MUST_CHECK int jr_str_slug(const char *src, char *dst, size_t cap);

/* base64url with '=' padding, as NATS object names and digests use it. */
void jr_str_base64url(struct jr_buf *b, const void *p, size_t n);

/* Copies s to *at, which moves behind it; there is room. The copy. */
struct jr_str jr_str_pack(char **at, struct jr_str s);
/* Copy with truncation, always terminated; returns false when it did not fit. */
bool jr_str_copy(char *dst, size_t cap, const char *src);
/* Edit distance, for "did you mean"; counts up to 32 characters. */
unsigned jr_str_distance(const char *a, const char *b);

/* The name that is nearest to what was typed, of those that are near: a letter in three is another,
 * or it is the name's beginning. {.typed = …} begins; then each name in turn. */
struct jr_str_nearest {
    const char *typed; /* borrows */
    char name[96];     /* "": none is near */
    unsigned distance;
};
void jr_str_nearer(struct jr_str_nearest *n, const char *name);

#endif
