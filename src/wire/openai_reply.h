/* SPDX-License-Identifier: Apache-2.0 */
/* openai_reply: what a router reads out of workers' OpenAI replies, and error bodies it writes
 * itself. Pure; any thread. */
#ifndef JR_WIRE_OPENAI_REPLY_H
#define JR_WIRE_OPENAI_REPLY_H

#include "base/str.h"

/* One chunk of a stream, or a whole reply. Views borrow from the text. */
struct jr_openai_reply {
    uint32_t n_choices;
    uint32_t n_content;   /* choices that carry something generated: text, content, reasoning, tool
                             calls or token ids, not empty */
    uint32_t n_token_ids; /* generated ids listed, when the worker returns them */
    struct jr_str token_ids;     /* the last list of them that is not empty, raw */
    bool has_text;               /* some choice has text that is not empty */
    uint32_t n_finished;         /* choices with a finish_reason */
    struct jr_str id;            /* raw */
    struct jr_str finish_reason; /* the last one, raw; n == 0: none */
    bool is_error;               /* has a top-level "error" that is not null */
    struct jr_str error_message; /* raw */
    bool has_usage, has_cached;
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
};

/* JR_EPROTO, JR_ETRUNC, JR_ELIMIT: not one whole JSON object. */
JR_MUST_CHECK int jr_openai_reply_parse(const void *p, size_t n, struct jr_openai_reply *ret);

/* What is followed of one streamed answer; fed by the SSE reader or a whole body. */
struct jr_openai_progress {
    bool first_token; /* something generated was seen */
    bool finished, done, failed;
    uint64_t n_content; /* chunks' content, counted by choice: about the tokens put out */
    bool has_usage, has_cached;
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
    uint64_t bad_chunks; /* that were no JSON; relayed all the same */
    /* Of the last chunk alone, until the next one; a view into it. */
    struct jr_str token_ids;
    uint32_t n_token_ids;
    bool has_text;
};

struct jr_sse_event;
/* Take one event of the stream into account; true when this one brought the first token. */
bool jr_openai_progress_event(struct jr_openai_progress *pr, const struct jr_sse_event *ev);
/* The same for the body of an answer that is not streamed. */
bool jr_openai_progress_body(struct jr_openai_progress *pr, const void *p, size_t n);

struct jr_openai_failure {
    int status;          /* HTTP */
    const char *type;    /* OpenAI's: NULL picks by status ("invalid_request_error", …) */
    const char *param;   /* NULL: null */
    const char *code;    /* OpenAI's: "model_not_found"; NULL: null */
    const char *message; /* what is wrong and what to do */
    const char *details; /* a JSON value; NULL: none */
};

/* Both shapes in one: {"message", "type": reason phrase, "code": status (Dynamo's), "error":
 * {"message", "type", "param", "code"} (OpenAI's)}, each with "details" when there are some. Appends;
 * check b->err. */
void jr_openai_error_write(struct jr_buf *b, const struct jr_openai_failure *f);
/* What OpenAI calls an error of that status. */
const char *jr_openai_error_type(int status);
/* HTTP's reason phrase; "Error" when unknown. */
const char *jr_openai_reason(int status);

#endif
