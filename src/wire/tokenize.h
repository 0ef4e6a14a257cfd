/* SPDX-License-Identifier: Apache-2.0 */
/* tokenize: asking a worker's tokenizer. vLLM's POST /tokenize, which SGLang's newer builds and our
 * mock engine serve as well. Pure; any thread. */
#ifndef JR_WIRE_TOKENIZE_H
#define JR_WIRE_TOKENIZE_H

#include "wire/openai.h"

/* The question for the tokens of a request's (first) prompt; body is what it was parsed from. Appends;
 * check b->err.
 *   text   {"model", "prompt", "add_special_tokens": true unless said}, as /v1/completions tokenizes
 *   chat   {"model", "messages", "tools", ...}, the chat fields raw */
void jr_tokenize_write(struct jr_buf *b, const struct jr_openai_request *req, const void *body);

/* All of the question but the text or the messages, each raw and absent ones empty: what else the
 * tokens depend on. Borrows from the request and the body. */
#define JR_TOKENIZE_FIELDS 9
#define JR_TOKENIZE_TOOLS  2 /* the place of the tools among them */
void jr_tokenize_fields(const struct jr_openai_request *req, const void *body,
                        struct jr_str ret[JR_TOKENIZE_FIELDS]);

struct jr_tokenize_reply {
    uint64_t count;
    uint64_t max_model_len; /* 0: not said */
};

/* tokens is overwritten. JR_EPROTO when it is no reply of a tokenizer, JR_ELIMIT beyond
 * JR_PROMPT_TOKENS_MAX, JR_ENOMEM; words in e (may be NULL). */
JR_MUST_CHECK int jr_tokenize_reply_parse(const void *p, size_t n, struct jr_tokens *tokens,
                                          struct jr_tokenize_reply *ret, struct jr_errmsg *e);

#endif
