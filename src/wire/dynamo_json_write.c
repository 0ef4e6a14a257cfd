/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/dynamo_json.h"

static void put_stored(struct jr_buf *b, const struct jr_kv_event *e)
{
    jr_buf_puts(b, "{\"stored\":{\"parent_hash\":");
    if (e->has_parent)
        jr_buf_digits(b, e->parent_hash);
    else
        jr_buf_puts(b, "null");
    jr_buf_puts(b, ",\"blocks\":[");
    for (uint32_t i = 0; i < e->n; i++) {
        jr_buf_puts(b, i ? ",{\"block_hash\":" : "{\"block_hash\":");
        jr_buf_digits(b, e->blocks[i].block_hash);
        jr_buf_puts(b, ",\"tokens_hash\":");
        jr_buf_digits(b, e->blocks[i].local_hash);
        jr_buf_puts(b, ",\"mm_extra_info\":null}");
    }
    jr_buf_puts(b, "]}}");
}

static void put_removed(struct jr_buf *b, const struct jr_kv_event *e)
{
    jr_buf_puts(b, "{\"removed\":{\"block_hashes\":[");
    for (uint32_t i = 0; i < e->n; i++) {
        if (i)
            jr_buf_u8(b, ',');
        jr_buf_digits(b, e->hashes[i]);
    }
    jr_buf_puts(b, "]}}");
}

static int put_data(struct jr_buf *b, const struct jr_kv_event *e)
{
    switch (e->type) {
    case JR_KV_STORED:
        put_stored(b, e);
        return 0;
    case JR_KV_REMOVED:
        put_removed(b, e);
        return 0;
    case JR_KV_CLEARED:
        jr_buf_puts(b, "\"cleared\"");
        return 0;
    default:
        return JR_EINVAL;
    }
}

int jr_dynamo_json_encode(const struct jr_kv_batch *batch, uint32_t i, struct jr_buf *b)
{
    size_t before = b->n;
    if (i >= batch->n_events)
        return JR_EINVAL;
    jr_buf_puts(b, "{\"worker_id\":");
    jr_buf_digits(b, batch->worker_id);
    jr_buf_puts(b, ",\"event\":{\"event_id\":");
    jr_buf_digits(b, batch->first_id + i);
    jr_buf_puts(b, ",\"data\":");
    int rv = put_data(b, &batch->events[i]);
    jr_buf_puts(b, ",\"dp_rank\":");
    jr_buf_digits(b, batch->dp_rank);
    jr_buf_puts(b, "}}");
    if (rv == 0)
        rv = b->err;
    if (rv < 0)
        b->n = before;
    return rv;
}
