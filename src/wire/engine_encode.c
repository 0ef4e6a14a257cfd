/* SPDX-License-Identifier: Apache-2.0 */
/* The other direction of engine_kv: what the mock engine publishes, and the frames of both sockets. */
#include "base/cursor.h"
#include "wire/engine_kv.h"
#include "wire/msgpack.h"
#include <string.h>

static void put_text(struct jr_buf *out, const char *s)
{
    jr_msgpack_put_str(out, s, strlen(s));
}

static void put_opt_str(struct jr_buf *out, struct jr_str s)
{
    if (s.n == 0) {
        jr_msgpack_put_nil(out);
    } else {
        jr_msgpack_put_str(out, s.p, s.n);
    }
}

static void put_hashes(struct jr_buf *out, const struct jr_engine_event *ev)
{
    jr_msgpack_put_array(out, ev->n_hashes);
    for (uint32_t i = 0; i < ev->n_hashes; i++) {
        jr_msgpack_put_uint(out, ev->hashes[i]);
    }
}

static void put_parent(struct jr_buf *out, const struct jr_engine_event *ev)
{
    if (ev->has_parent) {
        jr_msgpack_put_uint(out, ev->parent);
    } else {
        jr_msgpack_put_nil(out);
    }
}

static void put_tokens(struct jr_buf *out, const struct jr_engine_event *ev)
{
    jr_msgpack_put_array(out, ev->n_tokens);
    for (uint32_t i = 0; i < ev->n_tokens; i++) {
        jr_msgpack_put_uint(out, ev->tokens[i]);
    }
}

static void put_lora_id(struct jr_buf *out, const struct jr_engine_event *ev)
{
    if (ev->has_lora_id) {
        jr_msgpack_put_uint(out, ev->lora_id);
    } else {
        jr_msgpack_put_nil(out);
    }
}

static void put_medium(struct jr_buf *out, enum jr_engine_medium medium)
{
    static const char *const names[] = {"", "GPU", "CPU", "STORAGE", "EXTERNAL"};
    if (medium == JR_MEDIUM_NONE) {
        jr_msgpack_put_nil(out);
    } else {
        put_text(out, names[medium]);
    }
}

/* A list aligned with the blocks: LoRA name on each, salt on the first of a prompt, else nil. */
static void put_extra_keys(struct jr_buf *out, const struct jr_engine_event *ev)
{
    jr_msgpack_put_array(out, ev->n_hashes);
    for (uint32_t i = 0; i < ev->n_hashes; i++) {
        bool salt = i == 0 && ev->cache_salt.n > 0 && !ev->has_parent;
        uint32_t n = (ev->lora_name.n > 0 ? 1u : 0u) + (salt ? 1u : 0u);
        if (n == 0) {
            jr_msgpack_put_nil(out);
            continue;
        }
        jr_msgpack_put_array(out, n);
        if (ev->lora_name.n > 0) {
            put_opt_str(out, ev->lora_name);
        }
        if (salt) {
            put_opt_str(out, ev->cache_salt);
        }
    }
}

static void put_group(struct jr_buf *out, const struct jr_engine_event *ev)
{
    if (ev->has_group) {
        put_text(out, "group_idx");
        jr_msgpack_put_uint(out, ev->group_idx);
    }
}

/* Of a stored event, in all that are maps. */
static void put_run(struct jr_buf *out, const struct jr_engine_event *ev)
{
    put_text(out, "token_ids");
    put_tokens(out, ev);
    put_text(out, "block_size");
    jr_msgpack_put_uint(out, ev->block_size);
    put_text(out, "lora_id");
    put_lora_id(out, ev);
    put_text(out, "medium");
    put_medium(out, ev->medium);
}

static void put_stored_map(struct jr_buf *out, const struct jr_engine_event *ev)
{
    jr_msgpack_put_map(out, 9 + (ev->has_group ? 1u : 0u) + (ev->spec_kind.n > 0 ? 1u : 0u));
    put_text(out, "type");
    put_text(out, "BlockStored");
    put_text(out, "block_hashes");
    put_hashes(out, ev);
    put_text(out, "parent_block_hash");
    put_parent(out, ev);
    put_run(out, ev);
    put_text(out, "lora_name");
    put_opt_str(out, ev->lora_name);
    put_text(out, "extra_keys");
    put_extra_keys(out, ev);
    put_group(out, ev);
    if (ev->spec_kind.n > 0) {
        put_text(out, "kv_cache_spec_kind");
        put_opt_str(out, ev->spec_kind);
    }
}

static void put_map(struct jr_buf *out, const struct jr_engine_event *ev)
{
    if (ev->type == JR_ENGINE_STORED) {
        put_stored_map(out, ev);
    } else if (ev->type == JR_ENGINE_REMOVED) {
        jr_msgpack_put_map(out, ev->has_group ? 4 : 3);
        put_text(out, "type");
        put_text(out, "BlockRemoved");
        put_text(out, "block_hashes");
        put_hashes(out, ev);
        put_text(out, "medium");
        put_medium(out, ev->medium);
        put_group(out, ev);
    } else {
        jr_msgpack_put_map(out, 1);
        put_text(out, "type");
        put_text(out, "AllBlocksCleared");
    }
}

static void put_positional(struct jr_buf *out, const struct jr_engine_event *ev)
{
    if (ev->type == JR_ENGINE_STORED) {
        jr_msgpack_put_array(out, 8);
        put_text(out, "BlockStored");
        put_hashes(out, ev);
        put_parent(out, ev);
        put_tokens(out, ev);
        jr_msgpack_put_uint(out, ev->block_size);
        put_lora_id(out, ev);
        put_medium(out, ev->medium);
        put_opt_str(out, ev->lora_name);
    } else if (ev->type == JR_ENGINE_REMOVED) {
        jr_msgpack_put_array(out, 3);
        put_text(out, "BlockRemoved");
        put_hashes(out, ev);
        put_medium(out, ev->medium);
    } else {
        jr_msgpack_put_array(out, 1);
        put_text(out, "AllBlocksCleared");
    }
}

static void put_signed(struct jr_buf *out, uint64_t hash)
{
    int64_t v;
    memcpy(&v, &hash, sizeof v);
    jr_msgpack_put_int(out, v);
}

static void put_signed_hashes(struct jr_buf *out, const struct jr_engine_event *ev)
{
    put_text(out, "block_hashes");
    jr_msgpack_put_array(out, ev->n_hashes);
    for (uint32_t i = 0; i < ev->n_hashes; i++) {
        put_signed(out, ev->hashes[i]);
    }
}

static void put_sglang_stored(struct jr_buf *out, const struct jr_engine_event *ev)
{
    jr_msgpack_put_map(out, 7 + (ev->cache_salt.n > 0 ? 1u : 0u) + (ev->lora_name.n > 0 ? 1u : 0u));
    put_text(out, "type");
    put_text(out, "BlockStored");
    put_signed_hashes(out, ev);
    put_text(out, "parent_block_hash");
    if (ev->has_parent) {
        put_signed(out, ev->parent);
    } else {
        jr_msgpack_put_nil(out);
    }
    put_run(out, ev);
    if (ev->cache_salt.n > 0) {
        put_text(out, "cache_salt");
        put_opt_str(out, ev->cache_salt);
    }
    if (ev->lora_name.n > 0) {
        put_text(out, "lora_name");
        put_opt_str(out, ev->lora_name);
    }
}

static void put_sglang(struct jr_buf *out, const struct jr_engine_event *ev)
{
    if (ev->type == JR_ENGINE_STORED) {
        put_sglang_stored(out, ev);
    } else if (ev->type == JR_ENGINE_REMOVED) {
        jr_msgpack_put_map(out, 3);
        put_text(out, "type");
        put_text(out, "BlockRemoved");
        put_signed_hashes(out, ev);
        put_text(out, "medium");
        put_medium(out, ev->medium);
    } else {
        put_map(out, ev);
    }
}

void jr_engine_batch_encode(struct jr_buf *out, const struct jr_engine_batch *batch,
                            enum jr_engine_format format)
{
    jr_msgpack_put_array(out, 3);
    jr_msgpack_put_float(out, batch->ts);
    jr_msgpack_put_array(out, batch->n_events);
    for (uint32_t i = 0; i < batch->n_events; i++) {
        if (format == JR_ENGINE_VLLM_MAP) {
            put_map(out, &batch->events[i]);
        } else if (format == JR_ENGINE_SGLANG_MAP) {
            put_sglang(out, &batch->events[i]);
        } else {
            put_positional(out, &batch->events[i]);
        }
    }
    jr_msgpack_put_uint(out, batch->dp_rank);
}

void jr_engine_seq_write(uint8_t dst[JR_ENGINE_SEQ_BYTES], uint64_t seq)
{
    for (int i = 0; i < JR_ENGINE_SEQ_BYTES; i++) {
        dst[i] = (uint8_t)(seq >> (56 - 8 * i));
    }
}

static int seq_of(struct jr_str frame, uint64_t *ret)
{
    struct jr_cursor c = jr_cursor_of(frame.p, frame.n);
    return frame.n == JR_ENGINE_SEQ_BYTES ? jr_cursor_be64(&c, ret) : JR_EPROTO;
}

int jr_engine_live_parse(const struct jr_str *frames, uint32_t n, struct jr_engine_msg *ret)
{
    struct jr_engine_msg m = {.end = false};
    if (n != 3 || seq_of(frames[1], &m.seq) < 0) {
        return JR_EPROTO;
    }
    m.topic = frames[0];
    m.payload = frames[2];
    *ret = m;
    return 0;
}

int jr_engine_replay_parse(const struct jr_str *frames, uint32_t n, struct jr_engine_msg *ret)
{
    struct jr_engine_msg m = {.end = false};
    if (n < 2 || n > 5 || seq_of(frames[n - 2], &m.seq) < 0) {
        return JR_EPROTO;
    }
    m.payload = frames[n - 1];
    m.end = m.seq == JR_ENGINE_SEQ_END && m.payload.n == 0;
    /* A DEALER sees the empty delimiter first, a REQ socket does not; so a frame before the
     * sequence is the topic only when it is not that delimiter. */
    if (n >= 3) {
        m.topic = frames[n - 3];
    }
    *ret = m;
    return 0;
}

int jr_engine_replay_request_parse(const struct jr_str *frames, uint32_t n, uint64_t *ret_start)
{
    if (n != 2 || frames[0].n != 0 || frames[1].n > JR_ENGINE_SEQ_BYTES) {
        return JR_EPROTO;
    }
    uint64_t v = 0;
    for (size_t i = 0; i < frames[1].n; i++) {
        v = v << 8 | (uint8_t)frames[1].p[i];
    }
    *ret_start = v;
    return 0;
}

uint32_t jr_engine_replay_reply(struct jr_str frames[4], uint8_t seq_bytes[JR_ENGINE_SEQ_BYTES],
                                bool with_topic, const struct jr_engine_msg *msg)
{
    uint32_t n = 0;
    jr_engine_seq_write(seq_bytes, msg->seq);
    frames[n++] = jr_str_of("", 0);
    if (with_topic) {
        frames[n++] = msg->topic;
    }
    frames[n++] = jr_str_of((const char *)seq_bytes, JR_ENGINE_SEQ_BYTES);
    frames[n++] = msg->payload;
    return n;
}
