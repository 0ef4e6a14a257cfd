/* SPDX-License-Identifier: Apache-2.0 */
/* engine_kv: what inference engines say of their KV cache over ZMQ. Pure; any thread.
 *
 *     frames   topic │ sequence, 8 bytes big-endian │ MessagePack payload
 *     payload  [ts, [event, …], dp_rank]            the last may be nil or missing
 *     event    ["BlockStored", hashes, parent, token_ids, block_size, lora_id, medium, lora_name,
 *               extra_keys, group_idx, kv_cache_spec_kind, …]      vLLM ≤ 0.23, SGLang ≤ 0.5.19
 *           or {"type": "BlockStored", "block_hashes": …, …}       vLLM ≥ 0.24, SGLang ≥ 0.5.20
 *
 * Both forms are accepted event by event, positional ones with any tail missing or more fields than
 * known, maps with unknown keys. SGLang's own: signed hashes; token pairs (EAGLE); a map with
 * cache_salt at position 7, where vLLM has lora_name; CPU_PINNED for CPU. Positions as published by
 * vLLM 0.9 to 0.33 and SGLang 0.4.7 to 0.5.23. */
#ifndef JR_WIRE_ENGINE_KV_H
#define JR_WIRE_ENGINE_KV_H

#include "base/str.h"

struct jr_arena;

enum jr_engine_type { JR_ENGINE_STORED = 1, JR_ENGINE_REMOVED = 2, JR_ENGINE_CLEARED = 3 };

/* Where the blocks are. NONE: not said (old engines), which means the GPU. A name that is not known
 * reads as EXTERNAL. */
enum jr_engine_medium {
    JR_MEDIUM_NONE = 0,
    JR_MEDIUM_GPU,
    JR_MEDIUM_CPU,
    JR_MEDIUM_DISK,
    JR_MEDIUM_EXTERNAL,
};

/* A multimodal object inside a block: the first 16 of its 64 hex digits, as Dynamo takes them. */
struct jr_engine_mm {
    uint32_t block; /* which of the event's blocks */
    uint64_t hash;
};

/* Views borrow from the payload, arrays from the arena. */
struct jr_engine_event {
    enum jr_engine_type type;
    enum jr_engine_medium medium;
    /* Integers of either sign are taken bit for bit; byte strings by their last 8 bytes,
     * big-endian, which is what vLLM itself publishes as the integer form of the same hash. */
    const uint64_t *hashes;
    uint32_t n_hashes;
    /* The rest is of stored events. */
    bool has_parent;
    bool bigram; /* token_ids were pairs; tokens = the first of each, and the last one's second */
    bool opaque_extra; /* has extra keys that are none of the known: tokens do not name the block */
    bool has_lora_id;
    bool has_group;
    uint64_t parent;
    /* 0, or at least n_hashes × block_size: block i has tokens [i × block_size, …). 0: a connector
     * that does not say the tokens; then only known hashes can be resolved. */
    const uint32_t *tokens;
    uint32_t n_tokens;
    uint32_t block_size;
    uint32_t lora_id;
    uint32_t group_idx;
    struct jr_str lora_name;  /* n == 0: none */
    struct jr_str cache_salt; /* n == 0: none said. Only the first block of a prompt carries it;
                                 blocks with a parent inherit its salt */
    struct jr_str spec_kind;  /* "full_attention", "sliding_window", …; n == 0: not said */
    const struct jr_engine_mm *mm; /* ordered by block */
    uint32_t n_mm;
};

struct jr_engine_batch {
    double ts; /* Unix time in seconds */
    bool has_rank;
    uint32_t dp_rank; /* 0 when not said */
    const struct jr_engine_event *events;
    uint32_t n_events;
    uint32_t bad_events;     /* left out: malformed, though their extent was known */
    uint32_t ignored_events; /* left out: LoadStat and other kinds that say nothing of blocks */
};

/* Decode one payload. JR_EPROTO with words when it is no batch or breaks off (then nothing of it
 * may be used), JR_ELIMIT beyond JR_BATCH_EVENTS_MAX or JR_EVENT_BLOCKS_MAX, JR_ENOMEM. The result
 * lives as long as the payload and the arena's content. e may be NULL. */
JR_MUST_CHECK int jr_engine_batch_decode(const void *p, size_t n, struct jr_arena *arena,
                                         struct jr_engine_batch *ret, struct jr_errmsg *e);

/* Which attention group of a hybrid model is indexed; one per (engine, rank), zeroed at start. Stored
 * events name the kind of their group, removed ones only its number, so it is learned. */
struct jr_engine_group {
    bool known;
    uint32_t idx;
};
/* Is the event of the full-attention group, on whatever medium? Until a kind was said, that is group
 * 0. */
bool jr_engine_event_is_main_group(const struct jr_engine_event *ev, struct jr_engine_group *group);
/* And on the GPU? */
bool jr_engine_event_is_main(const struct jr_engine_event *ev, struct jr_engine_group *group);
static inline bool jr_engine_is_device(enum jr_engine_medium medium)
{
    return medium == JR_MEDIUM_NONE || medium == JR_MEDIUM_GPU;
}

/* For the mock engine: byte for byte what vLLM publishes for the fields it knows. */
enum jr_engine_format {
    JR_ENGINE_VLLM_MAP,        /* as vLLM 0.32.0 */
    JR_ENGINE_VLLM_POSITIONAL, /* as vLLM 0.15.1: no salt, no extra keys, no group */
    JR_ENGINE_SGLANG_MAP,      /* as SGLang 0.5.23: signed hashes, the salt beside them, no group */
};
/* Appends; check out->err. Stored events with a cache_salt or lora_name get extra_keys; mm is not
 * written. Always writes the rank, as engines do. */
void jr_engine_batch_encode(struct jr_buf *out, const struct jr_engine_batch *batch,
                            enum jr_engine_format format);

/* One message of the live or replay socket. */
struct jr_engine_msg {
    struct jr_str topic; /* n == 0: none */
    uint64_t seq;
    struct jr_str payload;
    bool end; /* replay: nothing more follows; seq and payload mean nothing */
};

#define JR_ENGINE_SEQ_BYTES 8
#define JR_ENGINE_SEQ_END   UINT64_MAX /* the sequence of replay's end marker */

void jr_engine_seq_write(uint8_t dst[JR_ENGINE_SEQ_BYTES], uint64_t seq);

/* SUB socket: exactly [topic][seq][payload]. JR_EPROTO otherwise. Frames are borrowed. */
JR_MUST_CHECK int jr_engine_live_parse(const struct jr_str *frames, uint32_t n,
                                       struct jr_engine_msg *ret);
/* Reply at a DEALER, read from the end: …[topic]?[seq][payload]; old engines send no topic. The end
 * marker has the sequence ff…ff and an empty payload. */
JR_MUST_CHECK int jr_engine_replay_parse(const struct jr_str *frames, uint32_t n,
                                         struct jr_engine_msg *ret);
/* Request at a ROUTER, without the identity: [empty][start], start of up to 8 bytes big-endian, as
 * vLLM takes it; empty means from 0. */
JR_MUST_CHECK int jr_engine_replay_request_parse(const struct jr_str *frames, uint32_t n,
                                                 uint64_t *ret_start);
/* Frames of one reply behind the identity: [empty][topic][seq][payload], without the topic for the
 * layout of vLLM < 0.26 and SGLang < 0.5.22. seq_bytes is the caller's memory, borrowed by the
 * frames. Returns how many were filled (3 or 4). The end marker: seq JR_ENGINE_SEQ_END, empty topic
 * and payload. */
uint32_t jr_engine_replay_reply(struct jr_str frames[4], uint8_t seq_bytes[JR_ENGINE_SEQ_BYTES],
                                bool with_topic, const struct jr_engine_msg *msg);

#endif
