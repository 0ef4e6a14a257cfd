/* SPDX-License-Identifier: Apache-2.0 */
/* tokenize: asking a worker's tokenizer. vLLM's POST /tokenize, which SGLang's newer builds and our
 * mock engine serve as well. Pure; any thread. */
#ifndef JR_WIRE_TOKENIZE_H
#define JR_WIRE_TOKENIZE_H

#include "wire/openai.h"

/* {"model", "prompt", "add_special_tokens": true}, as /v1/completions tokenizes. model.n == 0
 * leaves the model out (vLLM then takes its own). Appends; check b->err. */
void jr_tokenize_write_text(struct jr_buf *b, struct jr_str model, struct jr_str text);
/* {"model", "messages", "tools", …}, the chat fields copied raw from the body the request was
 * parsed from. */
void jr_tokenize_write_chat(struct jr_buf *b, const struct jr_openai_request *req,
                            const void *body);

struct jr_tokenize_reply {
    uint64_t count;
    uint64_t max_model_len; /* 0: not said */
};

/* tokens is overwritten. JR_EPROTO when it is no reply of a tokenizer, JR_ELIMIT beyond
 * JR_PROMPT_TOKENS_MAX, JR_ENOMEM; words in e (may be NULL). */
JR_MUST_CHECK int jr_tokenize_reply_parse(const void *p, size_t n, struct jr_tokens *tokens,
                                          struct jr_tokenize_reply *ret, struct jr_errmsg *e);

#endif
