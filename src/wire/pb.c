/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/pb.h"
#include "base/mem.h"

static void *arena_alloc(void *arena, size_t size)
{
    return jr_arena_alloc(arena, size);
}

static void arena_free(void *arena, void *p)
{
    (void)arena;
    (void)p;
}

int jr_pb_unpack(const ProtobufCMessageDescriptor *type, struct jr_arena *a, const void *p,
                 size_t n, ProtobufCMessage **ret)
{
    static const uint8_t nothing;
    ProtobufCAllocator alloc = {arena_alloc, arena_free, a};
    ProtobufCMessage *m = protobuf_c_message_unpack(type, &alloc, n, n ? p : &nothing);
    if (!m)
        return a->full ? JR_ELIMIT : JR_EPROTO;
    *ret = m;
    return 0;
}

int jr_pb_pack(const ProtobufCMessage *m, struct jr_buf *b)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    size_t before = b->n;
    if (b->err < 0)
        return b->err;
    if (size > b->max || before > b->max - size)
        return JR_ELIMIT;
    uint8_t *bytes = jr_xrealloc(NULL, size + 1);
    jr_buf_put(b, bytes, protobuf_c_message_pack(m, bytes));
    jr_xfree(bytes);
    if (b->err < 0)
        b->n = before;
    return b->err;
}
