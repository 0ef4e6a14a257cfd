/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/msgpack.h"
#include "base/limit.h"
#include "base/limits.h"
#include <string.h>

static uint16_t load_be16(const uint8_t *p)
{
    return (uint16_t)((uint16_t)p[0] << 8 | p[1]);
}

static uint32_t load_be32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap32(v);
}

static uint64_t load_be64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return __builtin_bswap64(v);
}

/* Bytes that follow the head byte h as value or length: 0, 1, 2, 4, 8. */
static uint32_t head_width(uint8_t h)
{
    static const uint8_t width[32] = {
        0, 0, 0, 0,             /* nil, never used, false, true */
        1, 2, 4,                /* bin */
        1, 2, 4,                /* ext */
        4, 8,                   /* float */
        1, 2, 4, 8, 1, 2, 4, 8, /* uint, int */
        0, 0, 0, 0, 0,          /* fixext */
        1, 2, 4,                /* str */
        2, 4, 2, 4,             /* array, map */
    };
    return h >= 0xc0 && h <= 0xdf ? width[h - 0xc0] : 0;
}

static uint64_t load_width(const uint8_t *p, uint32_t width)
{
    switch (width) {
    case 1:
        return *p;
    case 2:
        return load_be16(p);
    case 4:
        return load_be32(p);
    case 8:
        return load_be64(p);
    default:
        return 0;
    }
}

static void set_int(struct jr_msgpack *m, int64_t v)
{
    if (v < 0) {
        m->type = JR_MSGPACK_INT;
        m->v.i = v;
    } else {
        m->type = JR_MSGPACK_UINT;
        m->v.u = (uint64_t)v;
    }
}

static void set_float32(struct jr_msgpack *m, uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    m->type = JR_MSGPACK_FLOAT;
    m->v.f = (double)f;
}

static void set_sized(struct jr_msgpack *m, enum jr_msgpack_type type, uint64_t n)
{
    m->type = type;
    m->n = (uint32_t)n;
}

/* The heads of one byte and their value in it. False when h is none. */
static bool read_fix(uint8_t h, struct jr_msgpack *m)
{
    if (h <= 0x7f) {
        m->type = JR_MSGPACK_UINT;
        m->v.u = h;
    } else if (h <= 0x8f) {
        set_sized(m, JR_MSGPACK_MAP, h & 0x0fu);
    } else if (h <= 0x9f) {
        set_sized(m, JR_MSGPACK_ARRAY, h & 0x0fu);
    } else if (h <= 0xbf) {
        set_sized(m, JR_MSGPACK_STR, h & 0x1fu);
    } else if (h >= 0xe0) {
        set_int(m, (int8_t)h);
    } else if (h == 0xc0) {
        m->type = JR_MSGPACK_NIL;
    } else if (h == 0xc2 || h == 0xc3) {
        m->type = JR_MSGPACK_BOOL;
        m->v.b = h == 0xc3;
    } else {
        return false;
    }
    return true;
}

/* The heads 0xc4 … 0xdf, whose value or length x was read behind them. */
static int read_wide(uint8_t h, uint64_t x, struct jr_msgpack *m)
{
    if (h <= 0xc3) {
        return JR_EPROTO;
    }
    if (h <= 0xc6) {
        set_sized(m, JR_MSGPACK_BIN, x);
    } else if (h <= 0xc9) {
        set_sized(m, JR_MSGPACK_EXT, x + 1); /* the type byte counts as content */
    } else if (h == 0xca) {
        set_float32(m, (uint32_t)x);
    } else if (h == 0xcb) {
        m->type = JR_MSGPACK_FLOAT;
        memcpy(&m->v.f, &x, sizeof x);
    } else if (h <= 0xcf) {
        m->type = JR_MSGPACK_UINT;
        m->v.u = x;
    } else if (h <= 0xd3) {
        static const unsigned shift[4] = {56, 48, 32, 0};
        set_int(m, (int64_t)(x << shift[h - 0xd0]) >> shift[h - 0xd0]);
    } else if (h <= 0xd8) {
        set_sized(m, JR_MSGPACK_EXT, (UINT64_C(1) << (h - 0xd4)) + 1);
    } else if (h <= 0xdb) {
        set_sized(m, JR_MSGPACK_STR, x);
    } else {
        set_sized(m, h <= 0xdd ? JR_MSGPACK_ARRAY : JR_MSGPACK_MAP, x);
    }
    return 0;
}

int jr_msgpack_read(struct jr_cursor *c, struct jr_msgpack *ret)
{
    if (c->n == 0) {
        return JR_ETRUNC;
    }
    struct jr_msgpack m = {.type = JR_MSGPACK_NIL};
    uint8_t h = c->p[0];
    uint32_t width = head_width(h);
    if (c->n - 1 < width) {
        return JR_ETRUNC;
    }
    if (!read_fix(h, &m)) {
        uint64_t x = load_width(c->p + 1, width);
        if (h >= 0xc7 && h <= 0xc9 && x == UINT32_MAX) {
            return JR_ETRUNC;
        }
        int rv = read_wide(h, x, &m);
        if (rv < 0) {
            return rv;
        }
    }
    size_t left = c->n - 1 - width;
    size_t body = 0;
    if (m.type == JR_MSGPACK_STR || m.type == JR_MSGPACK_BIN || m.type == JR_MSGPACK_EXT) {
        body = m.n;
        m.p = c->p + 1 + width;
    }
    size_t least = m.type == JR_MSGPACK_MAP ? (size_t)m.n * 2 : m.n;
    if (left < least) {
        return JR_ETRUNC;
    }
    c->p += 1 + width + body;
    c->n -= 1 + width + body;
    *ret = m;
    return 0;
}

int jr_msgpack_skip(struct jr_cursor *c)
{
    uint64_t left[JR_MSGPACK_DEPTH_MAX + 1];
    struct jr_cursor at = *c;
    unsigned depth = 0;
    left[0] = 1;
    for (;;) {
        while (left[depth] == 0) {
            if (depth-- == 0) {
                *c = at;
                return 0;
            }
        }
        left[depth]--;
        struct jr_msgpack m;
        int rv = jr_msgpack_read(&at, &m);
        if (rv < 0) {
            return rv;
        }
        if (m.type == JR_MSGPACK_ARRAY || m.type == JR_MSGPACK_MAP) {
            if (depth == JR_MSGPACK_DEPTH_MAX) {
                return jr_limit(JR_LIMIT_MSGPACK_DEPTH);
            }
            left[++depth] = m.type == JR_MSGPACK_MAP ? (uint64_t)m.n * 2 : m.n;
        }
    }
}

/* One id by the general reader: near the end of the input, and for rare encodings. */
static int read_u32(struct jr_cursor *c, uint32_t *ret)
{
    struct jr_msgpack m;
    int rv = jr_msgpack_read(c, &m);
    if (rv < 0) {
        return rv;
    }
    if (m.type != JR_MSGPACK_UINT || m.v.u > UINT32_MAX) {
        return JR_EPROTO;
    }
    *ret = (uint32_t)m.v.u;
    return 0;
}

int jr_msgpack_read_u32s(struct jr_cursor *c, uint32_t n, uint32_t *dst)
{
    uint32_t i = 0;
    while (i < n) {
        const uint8_t *p = c->p;
        const uint8_t *end = p + c->n;
        /* Four forms cover what encoders send; all fit in 5 bytes, so one check is enough. */
        for (; i < n && end - p >= 5; i++) {
            if (*p == 0xcd) {
                dst[i] = load_be16(p + 1);
                p += 3;
            } else if (*p <= 0x7f) {
                dst[i] = *p++;
            } else if (*p == 0xce) {
                dst[i] = load_be32(p + 1);
                p += 5;
            } else if (*p == 0xcc) {
                dst[i] = p[1];
                p += 2;
            } else {
                break;
            }
        }
        c->p = p;
        c->n = (size_t)(end - p);
        if (i < n) {
            int rv = read_u32(c, &dst[i++]);
            if (rv < 0) {
                return rv;
            }
        }
    }
    return 0;
}

void jr_msgpack_put_nil(struct jr_buf *b)
{
    jr_buf_u8(b, 0xc0);
}

void jr_msgpack_put_bool(struct jr_buf *b, bool v)
{
    jr_buf_u8(b, v ? 0xc3 : 0xc2);
}

void jr_msgpack_put_uint(struct jr_buf *b, uint64_t v)
{
    if (v <= 0x7f) {
        jr_buf_u8(b, (uint8_t)v);
    } else if (v <= UINT8_MAX) {
        jr_buf_u8(b, 0xcc);
        jr_buf_u8(b, (uint8_t)v);
    } else if (v <= UINT16_MAX) {
        jr_buf_u8(b, 0xcd);
        jr_buf_be16(b, (uint16_t)v);
    } else if (v <= UINT32_MAX) {
        jr_buf_u8(b, 0xce);
        jr_buf_be32(b, (uint32_t)v);
    } else {
        jr_buf_u8(b, 0xcf);
        jr_buf_be64(b, v);
    }
}

void jr_msgpack_put_int(struct jr_buf *b, int64_t v)
{
    if (v >= 0) {
        jr_msgpack_put_uint(b, (uint64_t)v);
    } else if (v >= -32) {
        jr_buf_u8(b, (uint8_t)v);
    } else if (v >= INT8_MIN) {
        jr_buf_u8(b, 0xd0);
        jr_buf_u8(b, (uint8_t)v);
    } else if (v >= INT16_MIN) {
        jr_buf_u8(b, 0xd1);
        jr_buf_be16(b, (uint16_t)v);
    } else if (v >= INT32_MIN) {
        jr_buf_u8(b, 0xd2);
        jr_buf_be32(b, (uint32_t)v);
    } else {
        jr_buf_u8(b, 0xd3);
        jr_buf_be64(b, (uint64_t)v);
    }
}

void jr_msgpack_put_float(struct jr_buf *b, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    jr_buf_u8(b, 0xcb);
    jr_buf_be64(b, bits);
}

/* A length behind the head byte of its width: h8 (0: there is none), then 16 and 32 bits. */
static void put_length(struct jr_buf *b, uint8_t h8, uint8_t h16, size_t n)
{
    if (n <= UINT8_MAX && h8 != 0) {
        jr_buf_u8(b, h8);
        jr_buf_u8(b, (uint8_t)n);
    } else if (n <= UINT16_MAX) {
        jr_buf_u8(b, h16);
        jr_buf_be16(b, (uint16_t)n);
    } else {
        jr_buf_u8(b, (uint8_t)(h16 + 1));
        jr_buf_be32(b, (uint32_t)n);
    }
}

void jr_msgpack_put_str(struct jr_buf *b, const char *p, size_t n)
{
    if (n < 32) {
        jr_buf_u8(b, (uint8_t)(0xa0 | n));
    } else {
        put_length(b, 0xd9, 0xda, n);
    }
    jr_buf_put(b, p, n);
}

void jr_msgpack_put_bin(struct jr_buf *b, const void *p, size_t n)
{
    put_length(b, 0xc4, 0xc5, n);
    jr_buf_put(b, p, n);
}

void jr_msgpack_put_array(struct jr_buf *b, uint32_t n)
{
    if (n < 16) {
        jr_buf_u8(b, (uint8_t)(0x90 | n));
    } else {
        put_length(b, 0, 0xdc, n);
    }
}

void jr_msgpack_put_map(struct jr_buf *b, uint32_t n)
{
    if (n < 16) {
        jr_buf_u8(b, (uint8_t)(0x80 | n));
    } else {
        put_length(b, 0, 0xde, n);
    }
}
