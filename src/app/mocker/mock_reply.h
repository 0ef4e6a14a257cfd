/* SPDX-License-Identifier: Apache-2.0 */
/* mock_reply: the bodies the mock engine answers with, in the shapes of vLLM 0.32. Pure: all
 * append to a buffer, whose err the caller checks; arguments are borrowed. */
#ifndef JR_APP_MOCKER_MOCK_REPLY_H
#define JR_APP_MOCKER_MOCK_REPLY_H

#include "app/mocker/engine.h"
#include "base/str.h"

#define JR_MOCK_VERSION "0.32.0" /* of vLLM, whose shapes these are */

struct jr_mock_head {
    bool chat;
    const char *id; /* cmpl-…, chatcmpl-… */
    const char *model;
    int64_t created; /* Unix seconds */
};

struct jr_mock_usage {
    uint64_t prompt, completion, cached; /* tokens */
};

struct jr_mock_choice {
    uint32_t index;
    struct jr_str text;
    const char *finish_reason; /* NULL: goes on */
    /* With return_token_ids; NULL: not listed. */
    const uint32_t *prompt_ids, *ids;
    uint32_t n_prompt_ids, n_ids;
};

void jr_mock_reply_whole(struct jr_buf *b, const struct jr_mock_head *head,
                         const struct jr_mock_choice *choices, uint32_t n,
                         const struct jr_mock_usage *usage);
/* Events of a stream: the role that opens a chat's choice, a piece of text, the usage, the end. */
void jr_mock_reply_role(struct jr_buf *b, const struct jr_mock_head *head, uint32_t index);
void jr_mock_reply_chunk(struct jr_buf *b, const struct jr_mock_head *head,
                         const struct jr_mock_choice *choice);
void jr_mock_reply_usage(struct jr_buf *b, const struct jr_mock_head *head,
                         const struct jr_mock_usage *usage);
void jr_mock_reply_done(struct jr_buf *b);

/* {"error": {"message", "type", "param", "code"}}; param NULL is null. */
void jr_mock_reply_error(struct jr_buf *b, int status, const char *param, const char *message);
void jr_mock_reply_models(struct jr_buf *b, const struct jr_mock_head *head,
                          uint64_t max_model_len);
/* token_strs: the tokens spelled out too, else null. */
void jr_mock_reply_tokenize(struct jr_buf *b, const uint32_t *tokens, uint32_t n,
                            uint64_t max_model_len, bool token_strs);
/* stats: of each rank. */
void jr_mock_reply_metrics(struct jr_buf *b, const char *model,
                           const struct jr_engine_config *config,
                           const struct jr_engine_stats *stats, uint32_t n_ranks);

#endif
