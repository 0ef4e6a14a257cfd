/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/jfield.h"
#include "base/cursor.h"
#include <inttypes.h>
#include <string.h>

int jr_jfield_load(const void *p, size_t n, size_t max, json_t **ret, struct jr_errmsg *e)
{
    json_error_t why;
    if (n > max)
        return jr_errmsg_set(e, JR_ELIMIT, "a record of %zu bytes is over the limit of %zu", n,
                             max);
    json_t *root = json_loadb(n ? p : "", n, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return jr_errmsg_set(e, JR_EPROTO, "not JSON: %s", why.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return jr_errmsg_set(e, JR_EPROTO, "not a JSON object");
    }
    *ret = root;
    return 0;
}

void jr_jfield_complain(struct jr_jreader *r, const char *key, const char *what)
{
    if (r->err == 0)
        r->err = jr_errmsg_set(r->e, JR_EPROTO, "field \"%s\" %s", key, what);
}

static const json_t *get(struct jr_jreader *r, const json_t *o, const char *key,
                         enum jr_jfield_need need)
{
    const json_t *v = json_object_get(o, key);
    if (v && !json_is_null(v))
        return v;
    if (need == JR_JFIELD_REQUIRED)
        jr_jfield_complain(r, key, "is missing");
    return NULL;
}

void jr_jfield_str(struct jr_jreader *r, const json_t *o, const char *key, char *dst, size_t cap,
                   enum jr_jfield_need need)
{
    const json_t *v = get(r, o, key, need);
    if (!v)
        return;
    size_t n = json_string_length(v);
    if (!json_is_string(v))
        jr_jfield_complain(r, key, "is not text");
    else if (n >= cap)
        jr_jfield_complain(r, key, "is too long");
    else if (n == 0 && need == JR_JFIELD_REQUIRED)
        jr_jfield_complain(r, key, "is empty");
    else
        memcpy(dst, json_string_value(v), n + 1); /* jansson refuses \u0000 */
}

void jr_jfield_u64(struct jr_jreader *r, const json_t *o, const char *key, uint64_t max,
                   uint64_t *ret, enum jr_jfield_need need)
{
    const json_t *v = get(r, o, key, need);
    uint64_t n = 0;
    if (!v)
        return;
    if (json_is_integer(v) && json_integer_value(v) >= 0) {
        n = (uint64_t)json_integer_value(v);
    } else if (!json_is_string(v) ||
               jr_parse_u64(json_string_value(v), json_string_length(v), &n) < 0) {
        jr_jfield_complain(r, key, "is not a whole number of 64 bits");
        return;
    }
    if (n > max)
        jr_jfield_complain(r, key, "is too large");
    else
        *ret = n;
}

void jr_jfield_u32(struct jr_jreader *r, const json_t *o, const char *key, uint32_t max,
                   uint32_t *ret, enum jr_jfield_need need)
{
    uint64_t n = *ret;
    jr_jfield_u64(r, o, key, max, &n, need);
    *ret = (uint32_t)n;
}

void jr_jfield_bool(struct jr_jreader *r, const json_t *o, const char *key, bool *ret)
{
    const json_t *v = get(r, o, key, JR_JFIELD_OPTIONAL);
    if (!v)
        return;
    if (json_is_boolean(v))
        *ret = json_is_true(v);
    else
        jr_jfield_complain(r, key, "is not true or false");
}

const json_t *jr_jfield_array(struct jr_jreader *r, const json_t *o, const char *key)
{
    const json_t *v = get(r, o, key, JR_JFIELD_OPTIONAL);
    if (v && !json_is_array(v)) {
        jr_jfield_complain(r, key, "is not an array");
        return NULL;
    }
    return v;
}

const json_t *jr_jfield_object(struct jr_jreader *r, const json_t *o, const char *key)
{
    const json_t *v = get(r, o, key, JR_JFIELD_OPTIONAL);
    if (v && !json_is_object(v)) {
        jr_jfield_complain(r, key, "is not an object");
        return NULL;
    }
    return v;
}

/* ---- writing ---- */

void jr_jfield_put_key(struct jr_buf *b, const char *key)
{
    if (b->n > 0 && b->p[b->n - 1] != '{')
        jr_buf_u8(b, ',');
    jr_buf_json_str(b, key);
    jr_buf_u8(b, ':');
}

void jr_jfield_put_str(struct jr_buf *b, const char *key, const char *value)
{
    jr_jfield_put_key(b, key);
    jr_buf_json_str(b, value);
}

void jr_jfield_put_u64(struct jr_buf *b, const char *key, uint64_t value)
{
    jr_jfield_put_key(b, key);
    jr_buf_printf(b, "\"%" PRIu64 "\"", value);
}

void jr_jfield_put_num(struct jr_buf *b, const char *key, uint64_t value)
{
    jr_jfield_put_key(b, key);
    jr_buf_printf(b, "%" PRIu64, value);
}

void jr_jfield_put_bool(struct jr_buf *b, const char *key, bool value)
{
    jr_jfield_put_key(b, key);
    jr_buf_puts(b, value ? "true" : "false");
}
