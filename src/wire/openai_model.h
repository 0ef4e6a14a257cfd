/* SPDX-License-Identifier: Apache-2.0 */
/* openai_model: where a request body of any kind names its model, and the body with another name in
 * that place. Pure; any thread. */
#ifndef JR_WIRE_OPENAI_MODEL_H
#define JR_WIRE_OPENAI_MODEL_H

#include "wire/openai.h"

struct jr_openai_outline {
    struct jr_openai_span model; /* the value with its quotes; n == 0: names none */
    bool stream;
};

/* Reads no more than this of the body. JR_EPROTO, JR_ETRUNC, JR_ELIMIT: no whole JSON object. */
JR_MUST_CHECK int jr_openai_outline(struct jr_str body, struct jr_openai_outline *ret);

/* Appends the body with `model` as its model; all before and behind it stays as it is. Errors stick in
 * the buffer. */
void jr_openai_put_model(struct jr_str body, struct jr_openai_span span, const char *model,
                         struct jr_buf *out);

#endif
