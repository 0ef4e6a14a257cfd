/* SPDX-License-Identifier: Apache-2.0 */
#include "app/mocker/mock_reply.h"
#include "app/mocker/toy_tokenizer.h"
#include <inttypes.h>

static void put_text(struct jr_buf *b, struct jr_str text)
{
    jr_buf_u8(b, '"');
    jr_buf_json_escape(b, text.p, text.n);
    jr_buf_u8(b, '"');
}

static void put_head(struct jr_buf *b, const struct jr_mock_head *head, const char *object)
{
    jr_buf_puts(b, "{\"id\":");
    jr_buf_json_str(b, head->id);
    jr_buf_printf(b, ",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", object,
                  head->created);
    jr_buf_json_str(b, head->model);
    jr_buf_puts(b, ",\"choices\":[");
}

static void put_usage(struct jr_buf *b, const struct jr_mock_usage *u)
{
    jr_buf_printf(b,
                  "\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64
                  ",\"completion_tokens\":%" PRIu64
                  ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu64 "}}",
                  u->prompt, u->prompt + u->completion, u->completion, u->cached);
}

static void put_choice(struct jr_buf *b, bool chat, const struct jr_mock_choice *c)
{
    jr_buf_printf(b, "{\"index\":%u,", c->index);
    jr_buf_puts(b, chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
    put_text(b, c->text);
    jr_buf_puts(b, chat ? ",\"refusal\":null}" : "");
    jr_buf_puts(b, ",\"logprobs\":null,\"finish_reason\":");
    jr_buf_json_str(b, c->finish_reason);
    jr_buf_puts(b, ",\"stop_reason\":null}");
}

void jr_mock_reply_whole(struct jr_buf *b, const struct jr_mock_head *head,
                         const struct jr_mock_choice *choices, uint32_t n,
                         const struct jr_mock_usage *usage)
{
    put_head(b, head, head->chat ? "chat.completion" : "text_completion");
    for (uint32_t i = 0; i < n; i++) {
        jr_buf_puts(b, i > 0 ? "," : "");
        put_choice(b, head->chat, &choices[i]);
    }
    jr_buf_puts(b, "],\"service_tier\":null,\"system_fingerprint\":\"vllm-" JR_MOCK_VERSION
                   "-mock\",");
    put_usage(b, usage);
    jr_buf_puts(b, ",\"kv_transfer_params\":null}");
}

static void put_ids(struct jr_buf *b, const char *name, const uint32_t *ids, uint32_t n)
{
    if (ids == NULL)
        return;
    jr_buf_printf(b, ",\"%s\":[", name);
    for (uint32_t i = 0; i < n; i++)
        jr_buf_printf(b, i > 0 ? ",%u" : "%u", ids[i]);
    jr_buf_u8(b, ']');
}

static void put_chunk_head(struct jr_buf *b, const struct jr_mock_head *head)
{
    jr_buf_puts(b, "data: ");
    put_head(b, head, head->chat ? "chat.completion.chunk" : "text_completion");
}

void jr_mock_reply_role(struct jr_buf *b, const struct jr_mock_head *head, uint32_t index)
{
    put_chunk_head(b, head);
    jr_buf_printf(b,
                  "{\"index\":%u,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                  "\"logprobs\":null,\"finish_reason\":null}]}\n\n",
                  index);
}

void jr_mock_reply_chunk(struct jr_buf *b, const struct jr_mock_head *head,
                         const struct jr_mock_choice *choice)
{
    put_chunk_head(b, head);
    jr_buf_printf(b, "{\"index\":%u,", choice->index);
    jr_buf_puts(b, head->chat ? "\"delta\":{\"content\":" : "\"text\":");
    put_text(b, choice->text);
    jr_buf_puts(b, head->chat ? "}" : "");
    jr_buf_puts(b, ",\"logprobs\":null,\"finish_reason\":");
    jr_buf_json_str(b, choice->finish_reason);
    jr_buf_puts(b, ",\"stop_reason\":null");
    put_ids(b, "prompt_token_ids", choice->prompt_ids, choice->n_prompt_ids);
    put_ids(b, "token_ids", choice->ids, choice->n_ids);
    jr_buf_puts(b, "}]}\n\n");
}

void jr_mock_reply_usage(struct jr_buf *b, const struct jr_mock_head *head,
                         const struct jr_mock_usage *usage)
{
    put_chunk_head(b, head);
    jr_buf_puts(b, "],");
    put_usage(b, usage);
    jr_buf_puts(b, ",\"system_fingerprint\":\"vllm-" JR_MOCK_VERSION "-mock\"}\n\n");
}

void jr_mock_reply_done(struct jr_buf *b)
{
    jr_buf_puts(b, "data: [DONE]\n\n");
}

void jr_mock_reply_error(struct jr_buf *b, int status, const char *param, const char *message)
{
    jr_buf_puts(b, "{\"error\":{\"message\":");
    jr_buf_json_str(b, message);
    jr_buf_printf(b, ",\"type\":\"%s\",\"param\":",
                  status == 404   ? "NotFoundError"
                  : status == 500 ? "InternalServerError"
                                  : "BadRequestError");
    jr_buf_json_str(b, param);
    jr_buf_printf(b, ",\"code\":%d}}", status);
}

void jr_mock_reply_models(struct jr_buf *b, const struct jr_mock_head *head, uint64_t max_model_len)
{
    jr_buf_puts(b, "{\"object\":\"list\",\"data\":[{\"id\":");
    jr_buf_json_str(b, head->model);
    jr_buf_printf(b,
                  ",\"object\":\"model\",\"created\":%" PRId64 ",\"owned_by\":\"vllm\",\"root\":",
                  head->created);
    jr_buf_json_str(b, head->model);
    jr_buf_printf(b, ",\"parent\":null,\"max_model_len\":%" PRIu64 ",\"permission\":[]}]}",
                  max_model_len);
}

static void put_token_strs(struct jr_buf *b, const uint32_t *tokens, uint32_t n)
{
    struct jr_buf text;
    jr_buf_init(&text, 256);
    jr_buf_u8(b, '[');
    for (uint32_t i = 0; i < n; i++) {
        jr_buf_clear(&text);
        jr_toy_decode(&text, tokens[i]);
        jr_buf_puts(b, i > 0 ? "," : "");
        put_text(b, jr_str_of(jr_buf_str(&text), text.n));
    }
    jr_buf_u8(b, ']');
    jr_buf_deinit(&text);
}

void jr_mock_reply_tokenize(struct jr_buf *b, const uint32_t *tokens, uint32_t n,
                            uint64_t max_model_len, bool token_strs)
{
    jr_buf_printf(b, "{\"count\":%u,\"max_model_len\":%" PRIu64 ",\"tokens\":[", n, max_model_len);
    for (uint32_t i = 0; i < n; i++)
        jr_buf_printf(b, i > 0 ? ",%u" : "%u", tokens[i]);
    jr_buf_puts(b, "],\"token_strs\":");
    if (token_strs)
        put_token_strs(b, tokens, n);
    else
        jr_buf_puts(b, "null");
    jr_buf_u8(b, '}');
}

/* ---- metrics ------------------------------------------------------------------ */

struct metric {
    const char *name, *type, *help;
    double (*of)(const struct jr_engine_stats *s);
};

#define STAT(field)                                                                                \
    static double stat_##field(const struct jr_engine_stats *s)                                    \
    {                                                                                              \
        return (double)s->field;                                                                   \
    }
STAT(running)
STAT(waiting)
STAT(prefix_queries)
STAT(prefix_hits)
STAT(preemptions)
STAT(prompt_tokens)
STAT(generation_tokens)
STAT(finished)

static double stat_usage(const struct jr_engine_stats *s)
{
    return (double)s->blocks_used / (double)s->blocks_total;
}

static const struct metric metrics[] = {
    {"num_requests_running", "gauge", "Number of requests in model execution batches.",
     stat_running},
    {"num_requests_waiting", "gauge", "Number of requests waiting to be processed.", stat_waiting},
    {"kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", stat_usage},
    {"prefix_cache_queries_total", "counter",
     "Prefix cache queries, in terms of number of queried tokens.", stat_prefix_queries},
    {"prefix_cache_hits_total", "counter",
     "Prefix cache hits, in terms of number of cached tokens.", stat_prefix_hits},
    {"num_preemptions_total", "counter", "Cumulative number of preemption from the engine.",
     stat_preemptions},
    {"prompt_tokens_total", "counter", "Number of prefill tokens processed.", stat_prompt_tokens},
    {"generation_tokens_total", "counter", "Number of generation tokens processed.",
     stat_generation_tokens},
    {"request_success_total", "counter", "Count of successfully processed requests.",
     stat_finished},
};

static void put_sample(struct jr_buf *b, const char *model, const char *name, uint32_t rank,
                       double value)
{
    jr_buf_printf(b, "vllm:%s{engine=\"%u\",model_name=\"", name, rank);
    for (const char *p = model; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\')
            jr_buf_u8(b, '\\');
        jr_buf_u8(b, (uint8_t)*p);
    }
    jr_buf_printf(b, "\"} %.17g\n", value);
}

void jr_mock_reply_metrics(struct jr_buf *b, const char *model,
                           const struct jr_engine_config *config,
                           const struct jr_engine_stats *stats, uint32_t n_ranks)
{
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) {
        const struct metric *m = &metrics[i];
        jr_buf_printf(b, "# HELP vllm:%s %s\n# TYPE vllm:%s %s\n", m->name, m->help, m->name,
                      m->type);
        for (uint32_t k = 0; k < n_ranks; k++)
            put_sample(b, model, m->name, k, m->of(&stats[k]));
    }
    jr_buf_puts(b, "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
                   "# TYPE vllm:cache_config_info gauge\n");
    for (uint32_t k = 0; k < n_ranks; k++)
        jr_buf_printf(b,
                      "vllm:cache_config_info{block_size=\"%u\",cache_dtype=\"auto\","
                      "enable_prefix_caching=\"True\",engine=\"%u\",num_gpu_blocks=\"%u\","
                      "num_gpu_blocks_override=\"%u\"} 1.0\n",
                      config->block_size, k, config->num_gpu_blocks, config->num_gpu_blocks);
}
