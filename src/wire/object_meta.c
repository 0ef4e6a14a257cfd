/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/object_meta.h"
#include "base/str.h"
#include "wire/jfield.h"
#include <stdio.h>
#include <string.h>

#define DIGEST_PREFIX "SHA-256="
#define NS_PER_S      INT64_C(1000000000)

/* ---- RFC 3339, UTC; years 1970 to 2261 (what 63 bits of nanoseconds hold) ---- */

/* Days since 1970-01-01 of a date, and back: proleptic Gregorian calendar, counted in eras of 400
 * years that start on 1 March (H. Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t days_of_date(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = y / 400, yoe = y - era * 400;
    int64_t doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void date_of_days(int64_t days, int *ret_y, int *ret_m, int *ret_d)
{
    days += 719468;
    int64_t era = days / 146097, doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    *ret_d = (int)(doy - (153 * mp + 2) / 5 + 1);
    *ret_m = (int)(mp < 10 ? mp + 3 : mp - 9);
    *ret_y = (int)(yoe + era * 400 + (*ret_m <= 2));
}

static void put_time(struct jr_buf *b, int64_t ns)
{
    int y, m, d;
    int64_t s = ns / NS_PER_S, in_day = s % 86400;
    date_of_days(s / 86400, &y, &m, &d);
    jr_buf_printf(b, "\"%04d-%02d-%02dT%02d:%02d:%02d.%09dZ\"", y, m, d, (int)(in_day / 3600),
                  (int)(in_day / 60 % 60), (int)(in_day % 60), (int)(ns % NS_PER_S));
}

/* n digits at s to *ret. */
static bool digits(const char *s, int n, int64_t *ret)
{
    *ret = 0;
    for (int i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        *ret = *ret * 10 + (s[i] - '0');
    }
    return true;
}

/* "Z" or "+hh:mm" to seconds east of UTC. */
static bool read_zone(const char *s, int64_t *ret)
{
    int64_t h, m;
    *ret = 0;
    if (strcmp(s, "Z") == 0 || strcmp(s, "z") == 0)
        return true;
    if ((s[0] != '+' && s[0] != '-') || strlen(s) != 6 || s[3] != ':' || !digits(s + 1, 2, &h) ||
        !digits(s + 4, 2, &m) || h > 23 || m > 59)
        return false;
    *ret = (h * 3600 + m * 60) * (s[0] == '-' ? -1 : 1);
    return true;
}

/* 0 when it is not such a time: the message's own time counts then. */
static int64_t read_time(const char *s)
{
    int64_t y, mo, d, h, mi, sec, zone, frac = 0, unit = NS_PER_S;
    if (strlen(s) < 20 || s[4] != '-' || s[7] != '-' || (s[10] != 'T' && s[10] != 't') ||
        s[13] != ':' || s[16] != ':' || !digits(s, 4, &y) || !digits(s + 5, 2, &mo) ||
        !digits(s + 8, 2, &d) || !digits(s + 11, 2, &h) || !digits(s + 14, 2, &mi) ||
        !digits(s + 17, 2, &sec))
        return 0;
    s += 19;
    if (*s == '.') {
        for (s++; *s >= '0' && *s <= '9'; s++) {
            unit /= 10;
            frac += (*s - '0') * unit;
        }
    }
    if (y < 1970 || y > 2261 || mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 ||
        sec > 60 || !read_zone(s, &zone))
        return 0;
    int64_t total = days_of_date(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec - zone;
    return total > 0 ? total * NS_PER_S + frac : 0;
}

/* ---- digest ---- */

static int base64url_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* 43 characters are 258 bits: 32 bytes and two bits that must be 0. One '=' may follow. */
static bool read_digest(const char *s, uint8_t ret[32])
{
    uint32_t bits = 0, n_bits = 0;
    size_t n = 0;
    for (int i = 0; i < 43; i++, s++) {
        int v = base64url_value(*s);
        if (v < 0)
            return false;
        bits = (bits << 6 | (uint32_t)v) & 0xffff;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            ret[n++] = (uint8_t)(bits >> n_bits);
        }
    }
    return (bits & 3) == 0 && (strcmp(s, "=") == 0 || *s == 0);
}

/* ---- the document ---- */

int jr_object_meta_encode(const struct jr_object_meta *m, struct jr_buf *b)
{
    size_t before = b->n;
    if (!m->name[0] || !m->bucket[0] || (!m->nuid[0] && !m->deleted) || m->mtime_ns < 0)
        return JR_EINVAL;
    jr_buf_u8(b, '{');
    jr_jfield_put_str(b, "name", m->name);
    if (m->max_chunk_size) {
        jr_jfield_put_key(b, "options");
        jr_buf_printf(b, "{\"max_chunk_size\":%u}", m->max_chunk_size);
    }
    jr_jfield_put_str(b, "bucket", m->bucket);
    jr_jfield_put_str(b, "nuid", m->nuid);
    jr_jfield_put_num(b, "size", m->size);
    if (m->mtime_ns) {
        jr_jfield_put_key(b, "mtime");
        put_time(b, m->mtime_ns);
    }
    jr_jfield_put_num(b, "chunks", m->chunks);
    if (m->has_digest) {
        jr_jfield_put_key(b, "digest");
        jr_buf_puts(b, "\"" DIGEST_PREFIX);
        jr_str_base64url(b, m->digest, sizeof m->digest);
        jr_buf_u8(b, '"');
    }
    if (m->deleted)
        jr_jfield_put_bool(b, "deleted", true);
    jr_buf_u8(b, '}');
    if (b->err < 0)
        b->n = before;
    return b->err;
}

static int read_options(struct jr_jreader *r, const json_t *root, struct jr_object_meta *m)
{
    const json_t *options = jr_jfield_object(r, root, "options");
    const json_t *link = json_object_get(options, "link");
    if (link && !json_is_null(link))
        return jr_errmsg_set(r->e, JR_EUNSUPPORTED, "the object is a link");
    jr_jfield_u32(r, options, "max_chunk_size", UINT32_MAX, &m->max_chunk_size, JR_JFIELD_OPTIONAL);
    return 0;
}

static int read_digest_field(struct jr_jreader *r, const json_t *root, struct jr_object_meta *m)
{
    char text[128] = "";
    jr_jfield_str(r, root, "digest", text, sizeof text, JR_JFIELD_OPTIONAL);
    if (!text[0])
        return 0;
    if (strncmp(text, DIGEST_PREFIX, sizeof DIGEST_PREFIX - 1) != 0)
        return jr_errmsg_set(r->e, JR_EUNSUPPORTED, "the digest is not SHA-256");
    m->has_digest = read_digest(text + sizeof DIGEST_PREFIX - 1, m->digest);
    if (!m->has_digest)
        jr_jfield_complain(r, "digest", "is not 32 bytes in base64url");
    return 0;
}

int jr_object_meta_decode(const void *p, size_t n, struct jr_object_meta *ret, struct jr_errmsg *e)
{
    json_t *root;
    char mtime[64] = "";
    struct jr_jreader r = {.e = e};
    struct jr_object_meta m = {0};
    int rv = jr_jfield_load(p, n, JR_OBJECT_META_BYTES_MAX, &root, e);
    if (rv < 0)
        return rv;
    jr_jfield_str(&r, root, "name", m.name, sizeof m.name, JR_JFIELD_REQUIRED);
    jr_jfield_str(&r, root, "bucket", m.bucket, sizeof m.bucket, JR_JFIELD_REQUIRED);
    jr_jfield_u64(&r, root, "size", INT64_MAX, &m.size, JR_JFIELD_OPTIONAL);
    jr_jfield_u32(&r, root, "chunks", UINT32_MAX, &m.chunks, JR_JFIELD_OPTIONAL);
    jr_jfield_str(&r, root, "mtime", mtime, sizeof mtime, JR_JFIELD_OPTIONAL);
    jr_jfield_bool(&r, root, "deleted", &m.deleted);
    jr_jfield_str(&r, root, "nuid", m.nuid, sizeof m.nuid,
                  m.deleted ? JR_JFIELD_OPTIONAL : JR_JFIELD_REQUIRED);
    m.mtime_ns = read_time(mtime);
    rv = read_options(&r, root, &m);
    if (rv == 0)
        rv = read_digest_field(&r, root, &m);
    if (rv == 0)
        rv = r.err;
    json_decref(root);
    if (rv == 0)
        *ret = m;
    return rv;
}

/* ---- names ---- */

/* A bucket or nuid as NATS takes it for one token. */
static bool token_ok(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++) {
        bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');
        if (!letter && !(*s >= '0' && *s <= '9') && *s != '-' && *s != '_')
            return false;
    }
    return true;
}

static int join(char *dst, size_t cap, const char *a, const char *b, const char *c, const char *d)
{
    int n = snprintf(dst, cap, "%s%s%s%s", a, b, c, d);
    return n >= 0 && (size_t)n < cap ? 0 : JR_ELIMIT;
}

int jr_object_stream_name(const char *bucket, char *dst, size_t cap)
{
    return token_ok(bucket) ? join(dst, cap, "OBJ_", bucket, "", "") : JR_EINVAL;
}

int jr_object_chunk_subject(const char *bucket, const char *nuid, char *dst, size_t cap)
{
    if (!token_ok(bucket) || !token_ok(nuid))
        return JR_EINVAL;
    return join(dst, cap, "$O.", bucket, ".C.", nuid);
}

int jr_object_meta_subject(const char *bucket, const char *name, char *dst, size_t cap)
{
    struct jr_buf b;
    if (!token_ok(bucket) || !name[0])
        return JR_EINVAL;
    jr_buf_init(&b, JR_OBJECT_SUBJECT_MAX);
    jr_str_base64url(&b, name, strlen(name));
    int rv = b.err < 0 ? b.err : join(dst, cap, "$O.", bucket, ".M.", jr_buf_str(&b));
    jr_buf_deinit(&b);
    return rv;
}

int jr_object_chunk_wildcard(const char *bucket, char *dst, size_t cap)
{
    return token_ok(bucket) ? join(dst, cap, "$O.", bucket, ".C.>", "") : JR_EINVAL;
}

int jr_object_meta_wildcard(const char *bucket, char *dst, size_t cap)
{
    return token_ok(bucket) ? join(dst, cap, "$O.", bucket, ".M.>", "") : JR_EINVAL;
}
