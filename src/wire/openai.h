/* SPDX-License-Identifier: Apache-2.0 */
/* openai: reads what a router must know out of OpenAI request bodies, in one pass and without a
 * document tree. The body is relayed as it came; what is read here is only for the decision and for
 * tokenization. Implemented over simdjson in openai_json.cc. A parser belongs to one thread. */
#ifndef JR_WIRE_OPENAI_H
#define JR_WIRE_OPENAI_H

#include "base/str.h"
#include "wire/tokens.h"

#define JR_OPENAI_ANNOTATIONS_MAX 16

enum jr_openai_kind { JR_OPENAI_COMPLETION = 1, JR_OPENAI_CHAT = 2 };

enum jr_openai_prompt {
    JR_PROMPT_NONE = 0, /* chat */
    JR_PROMPT_TEXT,
    JR_PROMPT_TOKENS,
    JR_PROMPT_TEXT_LIST,
    JR_PROMPT_TOKEN_LISTS,
};

/* Bytes of the request body. n == 0: absent. */
struct jr_openai_span {
    size_t off, n;
};

/* cache_control, of nvext or beside it: the worker is to keep what it has of the prompt. */
struct jr_openai_cache_control {
    bool ephemeral; /* it is asked for */
    uint32_t ttl_s; /* JR_OPENAI_CACHE_TTL_MIN_S to …_MAX_S, whatever was said */
};
#define JR_OPENAI_CACHE_TTL_MIN_S 300 /* also for what is no time */
#define JR_OPENAI_CACHE_TTL_MAX_S 3600

struct jr_openai_nvext {
    bool has_backend_instance_id, has_decode_worker_id, has_prefill_worker_id;
    bool has_osl, has_priority, has_latency_sensitivity, has_strict_priority;
    uint64_t backend_instance_id, decode_worker_id, prefill_worker_id;
    uint32_t osl;               /* agent_hints.osl: expected output tokens */
    int32_t priority;           /* agent_hints.priority */
    double latency_sensitivity; /* agent_hints.latency_sensitivity, seconds */
    uint32_t strict_priority;   /* agent_hints.strict_priority */
    /* Ids to use instead of tokenizing, checked; read them with jr_openai_tokens_of. Dynamo heeds
     * them only when a backend instance id is given too, here or in a header. */
    struct jr_openai_span token_data;
    struct jr_str annotations[JR_OPENAI_ANNOTATIONS_MAX]; /* "key" or "key:value" */
    uint32_t n_annotations;
    bool want_worker_id, want_timing; /* extra_fields */
};

/* Views of text (struct jr_str) borrow from the parser and live until its next parse. */
struct jr_openai_request {
    enum jr_openai_kind kind;
    struct jr_str model;
    struct jr_openai_span model_span; /* the value with its quotes, for splicing */

    enum jr_openai_prompt prompt;
    uint32_t n_prompts; /* 1, or the length of the list */
    struct jr_str text; /* TEXT, TEXT_LIST: the (first) prompt, unescaped */
                        /* TOKENS, TOKEN_LISTS: the (first) prompt's ids are in the tokens array */
    struct jr_openai_span prompt_span;
    size_t text_bytes;    /* TEXT, TEXT_LIST: of all prompts, unescaped */
    uint64_t tokens_told; /* TOKENS, TOKEN_LISTS: ids of all prompts */
    /* The answer is bound to the prompt being text, not ids: echo, suffix, logprobs and the like. */
    bool text_bound;

    /* Raw JSON, copied into tokenization requests; all but the first are of chats. */
    struct jr_openai_span add_special_tokens, messages, tools, chat_template, chat_template_kwargs,
        add_generation_prompt, continue_final_message, mm_processor_kwargs;
    uint32_t n_messages;
    /* Where the last messages end, in the body: the last n_ends of them, in their order. */
    size_t ends[JR_OPENAI_ENDS_MAX];
    uint32_t n_ends;

    bool stream;
    bool include_usage; /* stream_options.include_usage */
    bool ignore_eos;
    bool echo;
    bool return_token_ids; /* vLLM's: the answer names them */
    bool has_max_tokens;
    uint32_t max_tokens; /* max_completion_tokens, else max_tokens */
    uint32_t min_tokens;
    uint32_t n; /* choices, 1 unless said */
    bool has_priority;
    int32_t priority; /* vLLM's top-level priority */
    struct jr_str user, cache_salt, lora_name, request_id;
    struct jr_openai_cache_control cache_control;
    struct jr_openai_nvext nvext; /* nvext.cache_salt fills cache_salt when that is absent */
};

struct jr_openai_error {
    struct jr_errmsg msg; /* what is wrong and what to do; fit for the client */
    const char *param;    /* static: the field at fault, or NULL */
};

struct jr_openai_parser;

/* max_body bounds the bytes of a body. */
JR_MUST_CHECK int jr_openai_parser_create(size_t max_body, struct jr_openai_parser **ret);
void jr_openai_parser_destroy(struct jr_openai_parser *p);

/* Parse one body (borrowed for the call). tokens (may be NULL: ids are checked and dropped) is
 * overwritten with the ids of the (first) prompt, and emptied when the prompt is text.
 * JR_EPROTO: not JSON, with the position; JR_EINVAL: JSON, but no valid request; JR_ELIMIT: too
 * deep, too many tokens or too long; JR_ENOMEM. A key given twice is JR_EINVAL: router and worker
 * might read different ones. */
JR_MUST_CHECK int jr_openai_parse(struct jr_openai_parser *p, enum jr_openai_kind kind,
                                  const void *body, size_t n, struct jr_tokens *tokens,
                                  struct jr_openai_request *ret, struct jr_openai_error *err);

/* Re-read the ids of a span that is an array of token ids (nvext.token_data, prompt). JR_EINVAL. */
JR_MUST_CHECK int jr_openai_tokens_of(const void *json, size_t n, struct jr_tokens *tokens);

#endif
