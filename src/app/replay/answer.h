/* SPDX-License-Identifier: Apache-2.0 */
/* answer: reads one streamed answer of /v1/completions and says whether it is whole.
 *
 *     data: {"choices":[{"text":"a",…}]}      the first one: time to first token
 *     data: {"choices":[{…,"finish_reason":"length"}]}
 *     data: {"choices":[],"usage":{"prompt_tokens":…,"completion_tokens":…,
 *                                  "prompt_tokens_details":{"cached_tokens":…}}}
 *     data: [DONE]
 *
 * Pure; one thread at a time. */
#ifndef JR_APP_REPLAY_ANSWER_H
#define JR_APP_REPLAY_ANSWER_H

#include "wire/sse.h"

struct jr_answer {
    struct jr_sse sse;
    const char *fault; /* the first thing that was wrong; a static text */
    bool started;      /* a choice has come */
    bool finished;     /* with a finish_reason */
    bool done;
    bool has_usage;
    bool has_cached; /* the worker said how many tokens it had cached */
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
};

void jr_answer_init(struct jr_answer *a);
void jr_answer_deinit(struct jr_answer *a);
/* Bytes of the body as they come. What is wrong with them is in a->fault. */
void jr_answer_feed(struct jr_answer *a, const void *p, size_t n);
/* At the end of the body: NULL when it was whole and has as many tokens as asked for, else why not,
 * a static text. */
const char *jr_answer_check(const struct jr_answer *a, uint32_t prompt_tokens,
                            uint32_t completion_tokens);

#endif
