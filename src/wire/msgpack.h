/* SPDX-License-Identifier: Apache-2.0 */
/* msgpack: reader and writer for the few kinds of MessagePack that engines send. Pure; any thread.
 * Format: github.com/msgpack/msgpack/blob/master/spec.md. The reader accepts every width and header
 * form, the writer picks the shortest, as msgspec and msgpack-python do, so that bytes compare. */
#ifndef JR_WIRE_MSGPACK_H
#define JR_WIRE_MSGPACK_H

#include "base/buf.h"
#include "base/cursor.h"

enum jr_msgpack_type {
    JR_MSGPACK_NIL,
    JR_MSGPACK_BOOL,
    JR_MSGPACK_UINT, /* any integer ≥ 0 */
    JR_MSGPACK_INT,  /* a negative one */
    JR_MSGPACK_FLOAT,
    JR_MSGPACK_STR,
    JR_MSGPACK_BIN,
    JR_MSGPACK_EXT,
    JR_MSGPACK_ARRAY,
    JR_MSGPACK_MAP,
};

/* One head: a scalar with its value, or a container's head, whose elements follow. */
struct jr_msgpack {
    enum jr_msgpack_type type;
    uint32_t n;       /* bytes of STR, BIN, EXT; elements of ARRAY; pairs of MAP */
    const uint8_t *p; /* STR, BIN, EXT: borrows the input */
    union {
        bool b;
        uint64_t u;
        int64_t i;
        double f;
    } v;
};

/* Read one head. JR_ETRUNC, or JR_EPROTO for the one byte that means nothing (0xc1). A container
 * that claims more elements than bytes are left is JR_ETRUNC, so a count may be trusted to be at
 * most the input's size. Nothing is consumed on failure. */
JR_MUST_CHECK int jr_msgpack_read(struct jr_cursor *c, struct jr_msgpack *ret);
/* Step over one whole value, iteratively; JR_ELIMIT beyond JR_MSGPACK_DEPTH_MAX levels. */
JR_MUST_CHECK int jr_msgpack_skip(struct jr_cursor *c);
/* Read n unsigned integers that fit 32 bits into dst: the token scanner, far faster than n heads.
 * JR_EPROTO when one is something else; then up to n of dst are overwritten and c is undefined. */
JR_MUST_CHECK int jr_msgpack_read_u32s(struct jr_cursor *c, uint32_t n, uint32_t *dst);

void jr_msgpack_put_nil(struct jr_buf *b);
void jr_msgpack_put_bool(struct jr_buf *b, bool v);
void jr_msgpack_put_uint(struct jr_buf *b, uint64_t v);
void jr_msgpack_put_int(struct jr_buf *b, int64_t v);
void jr_msgpack_put_float(struct jr_buf *b, double v);
void jr_msgpack_put_str(struct jr_buf *b, const char *p, size_t n);
void jr_msgpack_put_bin(struct jr_buf *b, const void *p, size_t n);
void jr_msgpack_put_array(struct jr_buf *b, uint32_t n);
void jr_msgpack_put_map(struct jr_buf *b, uint32_t n);

#endif
