/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/query.h"

#include <inttypes.h>
#include <string.h>

bool jr_query_is_asked(const struct jr_openai_nvext *nvext)
{
    static const char key[] = "query_instance_id:";
    for (uint32_t i = 0; i < nvext->n_annotations; i++) {
        const struct jr_str *s = &nvext->annotations[i];
        if (s->n >= sizeof key - 1 && memcmp(s->p, key, sizeof key - 1) == 0)
            return true;
    }
    return false;
}

static const char *object_of(const struct jr_query_answer *a)
{
    if (a->kind != JR_OPENAI_CHAT)
        return "text_completion";
    return a->stream ? "chat.completion.chunk" : "chat.completion";
}

void jr_query_put_worker(struct jr_buf *b, uint64_t worker_id, uint32_t dp_rank)
{
    static const char *const phases[] = {"prefill", "decode"};
    jr_buf_puts(b, "\"worker_id\":{");
    for (int i = 0; i < 2; i++)
        jr_buf_printf(b, "%s\"%s_worker_id\":%" PRIu64 ",\"%s_dp_rank\":%u", i ? "," : "",
                      phases[i], worker_id, phases[i], dp_rank);
    jr_buf_puts(b, "}");
}

void jr_query_write(struct jr_buf *b, const struct jr_query_answer *a)
{
    jr_buf_puts(b, a->stream ? "data: " : "");
    jr_buf_printf(
        b, "{\"id\":\"query-%" PRIu64 "\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":",
        a->number, object_of(a), a->created);
    jr_buf_json_str(b, a->model);
    jr_buf_puts(b, ",\"choices\":[],\"nvext\":{");
    jr_query_put_worker(b, a->decision->worker_id, a->decision->dp_rank);
    jr_buf_puts(b, ",\"token_ids\":");
    jr_tokens_write(b, a->ids, a->n_ids);
    jr_buf_puts(b, a->stream ? "}}\n\ndata: [DONE]\n\n" : "}}");
}
