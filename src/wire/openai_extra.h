/* SPDX-License-Identifier: Apache-2.0 */
/* openai_extra: puts members into the JSON objects of an answer as it passes by. All else stays as it
 * is, byte for byte. Pure; one thread at a time.
 *
 *     stream  data: {"id":1}\n   ──► data: {"id":1,"nvext":{…}}\n
 *     whole   {"id":1}           ──► {"id":1,"nvext":{…}}
 */
#ifndef JR_WIRE_OPENAI_EXTRA_H
#define JR_WIRE_OPENAI_EXTRA_H

#include "base/str.h"

struct jr_openai_extra {
    bool is_stream;
    bool passing;       /* too long to be held: goes on unchanged up to its end */
    struct jr_buf held; /* of a stream a line without its end; else all of the answer */
};

/* Appends members for the object ("name":value, no comma around them), or nothing. */
typedef void jr_openai_extra_fn(void *ctx, struct jr_str object, struct jr_buf *b);

/* held_max bounds the bytes that are held back. */
void jr_openai_extra_init(struct jr_openai_extra *e, bool is_stream, size_t held_max);
void jr_openai_extra_deinit(struct jr_openai_extra *e);
/* The next bytes of the answer; what can go on is appended to out. */
void jr_openai_extra_feed(struct jr_openai_extra *e, const void *p, size_t n,
                          jr_openai_extra_fn *fn, void *ctx, struct jr_buf *out);
/* The answer is whole: the rest. */
void jr_openai_extra_end(struct jr_openai_extra *e, jr_openai_extra_fn *fn, void *ctx,
                         struct jr_buf *out);

#endif
