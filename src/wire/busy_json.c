/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/busy_json.h"

#include "wire/jfield.h"

#include <math.h>

#define DECODE_BLOCKS "active_decode_blocks_threshold"
#define TOKENS        "active_prefill_tokens_threshold"
#define TOKENS_FRAC   "active_prefill_tokens_threshold_frac"

static void put(struct jr_buf *b, const char *key, bool has, double v)
{
    jr_jfield_put_key(b, key);
    if (has)
        jr_buf_printf(b, "%.17g", v);
    else
        jr_buf_puts(b, "null");
}

static void put_stamps(struct jr_buf *b, const struct jr_busy_record *r)
{
    if (r->set_ns > 0)
        jr_jfield_put_u64(b, "set_ns", (uint64_t)r->set_ns);
    if (r->after_ns > 0)
        jr_jfield_put_u64(b, "after_ns", (uint64_t)r->after_ns);
    if (r->deleted)
        jr_jfield_put_bool(b, "deleted", true);
}

int jr_busy_encode(const struct jr_busy_record *r, struct jr_buf *b)
{
    const struct jr_busy_limits *l = &r->limits;
    size_t before = b->n;
    if (!r->model[0] && !r->deleted)
        return JR_EINVAL;
    jr_buf_u8(b, '{');
    if (r->model[0])
        jr_jfield_put_str(b, "model", r->model);
    put(b, DECODE_BLOCKS, l->has_decode_blocks, l->decode_blocks);
    put(b, TOKENS, l->has_prefill_tokens, l->prefill_tokens);
    put(b, TOKENS_FRAC, l->has_prefill_frac, l->prefill_frac);
    put_stamps(b, r);
    jr_buf_u8(b, '}');
    if (b->err < 0)
        b->n = before;
    return b->err;
}

static void take(struct jr_jreader *r, const json_t *root, const char *key, bool *has, double *ret)
{
    const json_t *v = json_object_get(root, key);
    if (!v || json_is_null(v))
        return;
    double x = json_number_value(v);
    *has = json_is_number(v) && isfinite(x) && x >= 0;
    *ret = x;
    if (!*has)
        jr_jfield_complain(r, key, "must be a finite number from 0 on");
}

static void take_stamps(struct jr_jreader *r, const json_t *root, struct jr_busy_record *rec)
{
    uint64_t set = 0, after = 0;
    jr_jfield_u64(r, root, "set_ns", INT64_MAX - 1, &set, JR_JFIELD_OPTIONAL);
    jr_jfield_u64(r, root, "after_ns", INT64_MAX - 1, &after, JR_JFIELD_OPTIONAL);
    jr_jfield_bool(r, root, "deleted", &rec->deleted);
    rec->set_ns = (int64_t)set;
    rec->after_ns = (int64_t)after;
}

int jr_busy_decode(const void *p, size_t n, struct jr_busy_record *ret, struct jr_errmsg *e)
{
    json_t *root;
    struct jr_jreader r = {.e = e};
    struct jr_busy_record rec = {0};
    struct jr_busy_limits *l = &rec.limits;
    int rv = jr_jfield_load(p, n, JR_BUSY_BYTES_MAX, &root, e);
    if (rv < 0)
        return rv;
    take_stamps(&r, root, &rec);
    jr_jfield_str(&r, root, "model", rec.model, sizeof rec.model,
                  rec.deleted ? JR_JFIELD_OPTIONAL : JR_JFIELD_REQUIRED);
    take(&r, root, DECODE_BLOCKS, &l->has_decode_blocks, &l->decode_blocks);
    take(&r, root, TOKENS, &l->has_prefill_tokens, &l->prefill_tokens);
    take(&r, root, TOKENS_FRAC, &l->has_prefill_frac, &l->prefill_frac);
    json_decref(root);
    if (rec.deleted)
        *l = (struct jr_busy_limits){0};
    if (r.err == 0)
        *ret = rec;
    return r.err;
}
