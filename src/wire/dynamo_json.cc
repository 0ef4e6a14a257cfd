/* SPDX-License-Identifier: Apache-2.0 */
extern "C" {
#include "base/limits.h"
#include "wire/dynamo_json.h"
#include "wire/dynamo_scan.h"
}
#include <cstring>
#include <new>
#include <simdjson.h>

namespace dom = simdjson::dom;

/* The text is copied behind simdjson's padding: a NATS payload has none. */
struct jr_dynamo_parser {
    dom::parser dom;
    uint8_t *text;
    size_t cap;
};

namespace
{

/* A field of an object, at most once: serde refuses a known field that comes twice. */
struct field {
    const char *name;
    dom::element value;
    bool found;
};

int pick_fields(dom::object object, field *fields, size_t n)
{
    for (auto member : object) {
        for (size_t i = 0; i < n; i++) {
            if (member.key != fields[i].name)
                continue;
            if (fields[i].found)
                return JR_EPROTO;
            fields[i].value = member.value;
            fields[i].found = true;
        }
    }
    return 0;
}

int get_u64(const field &f, uint64_t *ret)
{
    return f.found && !f.value.get_uint64().get(*ret) ? 0 : JR_EPROTO;
}

int decode_stored(dom::element stored, jr_arena *arena, jr_kv_event *ret)
{
    field f[] = {{"parent_hash", {}, false}, {"blocks", {}, false}};
    dom::object object;
    dom::array blocks;
    if (stored.get_object().get(object) || pick_fields(object, f, 2) < 0 || !f[1].found ||
        f[1].value.get_array().get(blocks))
        return JR_EPROTO;
    if (f[0].found && !f[0].value.is_null()) {
        ret->has_parent = true;
        if (get_u64(f[0], &ret->parent_hash) < 0)
            return JR_EPROTO;
    }
    size_t n = 0;
    for (auto block : blocks) {
        (void)block;
        n++;
    }
    if (n > JR_EVENT_BLOCKS_MAX)
        return JR_ELIMIT;
    auto *out = static_cast<jr_kv_block *>(jr_arena_array(arena, n, sizeof(jr_kv_block)));
    if (!out)
        return JR_ENOMEM;
    ret->type = JR_KV_STORED;
    ret->blocks = out;
    for (auto block : blocks) {
        field b[] = {{"block_hash", {}, false}, {"tokens_hash", {}, false}};
        if (block.get_object().get(object) || pick_fields(object, b, 2) < 0 ||
            get_u64(b[0], &out->block_hash) < 0 || get_u64(b[1], &out->local_hash) < 0)
            return JR_EPROTO;
        out++;
        ret->n++;
    }
    return 0;
}

int decode_removed(dom::element removed, jr_arena *arena, jr_kv_event *ret)
{
    field f[] = {{"block_hashes", {}, false}};
    dom::object object;
    dom::array hashes;
    if (removed.get_object().get(object) || pick_fields(object, f, 1) < 0 || !f[0].found ||
        f[0].value.get_array().get(hashes))
        return JR_EPROTO;
    size_t n = 0;
    for (auto hash : hashes) {
        (void)hash;
        n++;
    }
    if (n > JR_EVENT_BLOCKS_MAX)
        return JR_ELIMIT;
    auto *out = static_cast<uint64_t *>(jr_arena_array(arena, n, sizeof(uint64_t)));
    if (!out)
        return JR_ENOMEM;
    ret->type = JR_KV_REMOVED;
    ret->hashes = out;
    for (auto hash : hashes) {
        if (hash.get_uint64().get(*out))
            return JR_EPROTO;
        out++;
        ret->n++;
    }
    return 0;
}

/* An externally tagged enum: "cleared", or an object with the variant's name as its only key. */
int decode_data(dom::element data, jr_arena *arena, jr_kv_event *ret)
{
    std::string_view name;
    dom::object object;
    if (!data.get_string().get(name)) {
        ret->type = JR_KV_CLEARED;
        return name == "cleared" ? 0 : JR_EPROTO;
    }
    if (data.get_object().get(object) || object.size() != 1)
        return JR_EPROTO;
    auto variant = *object.begin();
    if (variant.key == "stored")
        return decode_stored(variant.value, arena, ret);
    if (variant.key == "removed")
        return decode_removed(variant.value, arena, ret);
    ret->type = JR_KV_CLEARED;
    return variant.key == "cleared" && variant.value.is_null() ? 0 : JR_EPROTO;
}

int decode_event(dom::element event, jr_arena *arena, jr_kv_event *ret, jr_kv_batch *batch)
{
    field f[] = {{"event_id", {}, false}, {"data", {}, false}, {"dp_rank", {}, false}};
    dom::object object;
    uint64_t rank = 0;
    if (event.get_object().get(object) || pick_fields(object, f, 3) < 0 ||
        get_u64(f[0], &batch->first_id) < 0 || !f[1].found)
        return JR_EPROTO;
    if (f[2].found && get_u64(f[2], &rank) < 0)
        return JR_EPROTO;
    if (rank >= JR_RANKS_MAX)
        return JR_ELIMIT;
    batch->dp_rank = static_cast<uint32_t>(rank);
    return decode_data(f[1].value, arena, ret);
}

/* v1.1: blocks in another memory than the GPU's cannot be matched by a router of GPU blocks. */
int decode_tier(const field &f, bool *ret_device)
{
    std::string_view tier;
    *ret_device = true;
    if (!f.found)
        return 0;
    if (f.value.get_string().get(tier))
        return JR_EPROTO;
    *ret_device = tier == "device";
    return 0;
}

int decode_router_event(dom::element root, jr_arena *arena, jr_kv_batch *ret)
{
    field f[] = {{"worker_id", {}, false}, {"event", {}, false}, {"storage_tier", {}, false}};
    dom::object object;
    bool device;
    if (root.get_object().get(object) || pick_fields(object, f, 3) < 0 ||
        get_u64(f[0], &ret->worker_id) < 0 || !f[1].found || decode_tier(f[2], &device) < 0)
        return JR_EPROTO;
    auto *event = static_cast<jr_kv_event *>(jr_arena_alloc(arena, sizeof(jr_kv_event)));
    if (!event)
        return JR_ENOMEM;
    memset(event, 0, sizeof *event);
    int rv = decode_event(f[1].value, arena, event, ret);
    if (rv < 0)
        return rv;
    if (!device) {
        memset(event, 0, sizeof *event);
        event->type = JR_KV_REMOVED;
    }
    ret->events = event;
    ret->n_events = 1;
    ret->dynamo = true;
    return 0;
}

/* Room for n bytes and simdjson's padding. */
int reserve(jr_dynamo_parser *p, size_t n)
{
    size_t cap = n + simdjson::SIMDJSON_PADDING;
    if (cap <= p->cap)
        return 0;
    if (cap < 2 * p->cap)
        cap = 2 * p->cap;
    auto *text = new (std::nothrow) uint8_t[cap];
    if (!text)
        return JR_ENOMEM;
    delete[] p->text;
    p->text = text;
    p->cap = cap;
    return 0;
}

} // namespace

extern "C" jr_dynamo_parser *jr_dynamo_parser_create(void)
{
    return new (std::nothrow) jr_dynamo_parser();
}

extern "C" void jr_dynamo_parser_destroy(jr_dynamo_parser *p)
{
    if (!p)
        return;
    delete[] p->text;
    delete p;
}

extern "C" int jr_dynamo_json_parse(jr_dynamo_parser *p, const void *text, size_t n,
                                    jr_arena *arena, jr_kv_batch *ret, jr_errmsg *e)
{
    dom::element root;
    if (n > JR_BATCH_BYTES_MAX)
        return jr_errmsg_set(e, JR_ELIMIT, "an event of %zu bytes is over the limit of %d", n,
                             JR_BATCH_BYTES_MAX);
    if (reserve(p, n) < 0)
        return jr_errmsg_set(e, JR_ENOMEM, "no memory to parse an event of %zu bytes", n);
    if (n)
        memcpy(p->text, text, n);
    memset(p->text + n, 0, simdjson::SIMDJSON_PADDING);
    auto error = p->dom.parse(p->text, n, false).get(root);
    if (error == simdjson::MEMALLOC)
        return jr_errmsg_set(e, JR_ENOMEM, "no memory to parse an event of %zu bytes", n);
    if (error)
        return jr_errmsg_set(e, JR_EPROTO, "not JSON: %s", simdjson::error_message(error));
    jr_kv_batch batch = {};
    int rv = decode_router_event(root, arena, &batch);
    if (rv < 0)
        return jr_errmsg_set(e, rv, "%s",
                             rv == JR_EPROTO   ? "not a RouterEvent"
                             : rv == JR_ELIMIT ? "an event over a limit"
                                               : "the arena is full");
    *ret = batch;
    return 0;
}

extern "C" int jr_dynamo_json_decode(jr_dynamo_parser *p, const void *text, size_t n,
                                     jr_arena *arena, jr_kv_batch *ret, jr_errmsg *e)
{
    int rv = n <= JR_BATCH_BYTES_MAX ? jr_dynamo_scan(text, n, arena, ret) : JR_EAGAIN;
    if (rv == JR_ENOMEM)
        return jr_errmsg_set(e, JR_ENOMEM, "%s", "the arena is full");
    return rv == 0 ? 0 : jr_dynamo_json_parse(p, text, n, arena, ret, e);
}
