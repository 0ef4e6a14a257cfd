/* SPDX-License-Identifier: Apache-2.0 */
/* jfield: typed, bounded fields of small JSON documents (jansson); shared by the codecs of wire, for
 * nobody else. Pure.
 *
 * Reading collects the first complaint, so that a decoder reads all fields and checks once:
 *     struct jr_jreader r = {…};
 *     jr_jfield_str(&r, object, "url", l.url, sizeof l.url, JR_JFIELD_REQUIRED);
 *     if (r.err < 0) … */
#ifndef JR_WIRE_JFIELD_H
#define JR_WIRE_JFIELD_H

#include "base/buf.h"
#include <jansson.h>

enum jr_jfield_need { JR_JFIELD_OPTIONAL, JR_JFIELD_REQUIRED };

struct jr_jreader {
    struct jr_errmsg *e; /* may be NULL; borrowed */
    int err;             /* 0 or the first complaint: JR_EPROTO */
};

/* Text to a document (returns owned: json_decref). The document must be one object, without duplicate
 * keys. JR_EPROTO, JR_ELIMIT (n over max). */
JR_MUST_CHECK int jr_jfield_load(const void *p, size_t n, size_t max, json_t **ret,
                                 struct jr_errmsg *e);

/* A missing or null optional field leaves *ret alone. */
void jr_jfield_str(struct jr_jreader *r, const json_t *o, const char *key, char *dst, size_t cap,
                   enum jr_jfield_need need);
/* A non-negative number or its decimal text, at most max. */
void jr_jfield_u64(struct jr_jreader *r, const json_t *o, const char *key, uint64_t max,
                   uint64_t *ret, enum jr_jfield_need need);
void jr_jfield_u32(struct jr_jreader *r, const json_t *o, const char *key, uint32_t max,
                   uint32_t *ret, enum jr_jfield_need need);
void jr_jfield_bool(struct jr_jreader *r, const json_t *o, const char *key, bool *ret);
/* The array or object of that name, or NULL (missing or null). Borrows from o. */
const json_t *jr_jfield_array(struct jr_jreader *r, const json_t *o, const char *key);
const json_t *jr_jfield_object(struct jr_jreader *r, const json_t *o, const char *key);
void jr_jfield_complain(struct jr_jreader *r, const char *key, const char *what);

/* Writing: "key":value with a comma before it unless it comes first in its object (the byte before
 * is '{'). put_u64 writes decimal text in quotes, put_num a number (for what stays below 2^53). */
void jr_jfield_put_key(struct jr_buf *b, const char *key);
void jr_jfield_put_str(struct jr_buf *b, const char *key, const char *value);
void jr_jfield_put_u64(struct jr_buf *b, const char *key, uint64_t value);
void jr_jfield_put_num(struct jr_buf *b, const char *key, uint64_t value);
void jr_jfield_put_bool(struct jr_buf *b, const char *key, bool value);

#endif
