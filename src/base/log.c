/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/buf.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX  2048                 /* the caller's key=value text; longer is cut */
#define LINE_MAX_ (TEXT_MAX * 6 + 512) /* escaping makes at most six bytes of one */
#define WINDOW_MS 10000

static struct jr_log_config config = {.level = JR_LOG_OFF};

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};
static const char *const level_words[] = {"DEBUG", "INFO", "WARN", "ERROR", "OFF"};

int jr_log_level_parse(const char *s, enum jr_log_level *ret)
{
    for (int i = 0; i <= JR_LOG_OFF; i++) {
        if (strcmp(s, level_names[i]) == 0) {
            *ret = (enum jr_log_level)i;
            return 0;
        }
    }
    return JR_EINVAL;
}

bool jr_log_enabled(enum jr_log_level level)
{
    return config.write && config.now_ms && level < JR_LOG_OFF && level >= config.level;
}

/* ---- rate limit ----
 *
 * A table of event ids that only fills, without locks: a slot is claimed by a compare-and-set of
 * its hash, its name is published by `named`. `tally` is window << 32 | lines seen in it. Whoever
 * moves a slot to a new window reports what the old one suppressed. A full table limits nothing
 * more; there are far fewer events in the program than slots. */

#define SLOTS      256
#define NAME_WORDS 6

static struct slot {
    _Atomic uint64_t hash; /* 0: free */
    _Atomic uint64_t tally;
    _Atomic uint64_t name[NAME_WORDS];
    _Atomic bool named;
} slots[SLOTS];

static _Atomic uint32_t swept; /* the window in which all slots were last looked at */

static uint64_t hash_of(const char *s)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
    return h ? h : 1;
}

static void name_slot(struct slot *s, const char *event)
{
    char name[NAME_WORDS * 8] = "";
    uint64_t word;

    memcpy(name, event, strnlen(event, sizeof name - 1));
    for (unsigned i = 0; i < NAME_WORDS; i++) {
        memcpy(&word, name + (size_t)i * 8, 8);
        atomic_store_explicit(&s->name[i], word, memory_order_relaxed);
    }
    atomic_store_explicit(&s->named, true, memory_order_release);
}

static struct slot *slot_of(const char *event)
{
    uint64_t hash = hash_of(event);

    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *s = &slots[(hash + i) % SLOTS];
        uint64_t seen = 0;
        if (atomic_compare_exchange_strong(&s->hash, &seen, hash)) {
            name_slot(s, event);
            return s;
        }
        if (seen == hash)
            return s;
    }
    return NULL;
}

/* Count one line of the slot in this window (or none, when only sweeping). Returns how many lines
 * the window now has; *ret_suppressed what an older window, closed hereby, kept back. */
static uint32_t tally(struct slot *s, uint32_t window, uint32_t add, uint32_t *ret_suppressed)
{
    uint64_t old = atomic_load(&s->tally), made;
    uint32_t count, kept;

    do {
        bool same = (uint32_t)(old >> 32) == window;
        count = (uint32_t)old;
        kept = !same && count > config.per_event_max ? count - config.per_event_max : 0;
        count = same ? count : 0;
        if (count < UINT32_MAX)
            count += add;
        made = (uint64_t)window << 32 | count;
    } while (!atomic_compare_exchange_weak(&s->tally, &old, made));
    *ret_suppressed = kept;
    return count;
}

/* ---- one line ---- */

struct pair {
    const char *key, *value; /* key is empty for a bare word */
    size_t key_len, value_len;
};

/* Where the quoted value at s ends: callers put raw text between the quotes, so a quote counts only
 * before the end or the next key; failing that, the last one does. */
static const char *closing_quote(const char *s)
{
    const char *last = NULL;

    for (; *s; s++) {
        size_t key_len;
        if (*s != '"')
            continue;
        last = s;
        if (s[1] == '\0')
            break;
        if (s[1] != ' ')
            continue;
        key_len = strspn(s + 2, "abcdefghijklmnopqrstuvwxyz0123456789_.-");
        if (key_len > 0 && s[2 + key_len] == '=')
            break;
    }
    return last ? last : s;
}

/* The next key=value, key="quoted" or bare word of *p; false at the end. */
static bool next_pair(const char **p, struct pair *ret)
{
    const char *s = *p + strspn(*p, " "), *end;
    size_t key_len = strcspn(s, "= ");

    if (!*s)
        return false;
    *ret = (struct pair){.key = s, .value = s};
    if (s[key_len] == '=' && key_len > 0) {
        ret->key_len = key_len;
        s += key_len + 1;
    }
    if (ret->key_len > 0 && *s == '"') {
        end = closing_quote(++s);
        *p = *end ? end + 1 : end;
    } else {
        end = s + strcspn(s, " ");
        *p = end;
    }
    ret->value = s;
    ret->value_len = (size_t)(end - s);
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* JSON's grammar of numbers (RFC 8259 §6). */
static bool is_json_number(const char *s, size_t n)
{
    size_t i = 0, start;

    if (i < n && s[i] == '-')
        i++;
    if (i >= n || !is_digit(s[i]) || (s[i] == '0' && i + 1 < n && is_digit(s[i + 1])))
        return false;
    while (i < n && is_digit(s[i]))
        i++;
    if (i < n && s[i] == '.') {
        for (start = ++i; i < n && is_digit(s[i]);)
            i++;
        if (i == start)
            return false;
    }
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        i++;
        if (i < n && (s[i] == '+' || s[i] == '-'))
            i++;
        for (start = i; i < n && is_digit(s[i]);)
            i++;
        if (i == start)
            return false;
    }
    return i == n;
}

static void put_quoted(struct jr_buf *b, const char *s, size_t n)
{
    jr_buf_u8(b, '"');
    jr_buf_json_escape(b, s, n);
    jr_buf_u8(b, '"');
}

static void put_time(struct jr_buf *b, uint64_t ms)
{
    /* Days to a date of the proleptic Gregorian calendar, in eras of 400 years that begin on the
     * first of March (Hinnant, "chrono-compatible low-level date algorithms"). */
    uint64_t days = ms / 86400000, in_day = ms % 86400000;
    uint64_t z = days + 719468, era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    unsigned day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    unsigned month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    unsigned year = (unsigned)(yoe + era * 400 + (month <= 2 ? 1 : 0));

    jr_buf_printf(b, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", year, month, day,
                  (unsigned)(in_day / 3600000), (unsigned)(in_day / 60000 % 60),
                  (unsigned)(in_day / 1000 % 60), (unsigned)(in_day % 1000));
}

/* Bare words are kept in order; quotes only where a reader needs them. */
static void put_text_pairs(struct jr_buf *b, const char *text)
{
    struct pair p;

    while (next_pair(&text, &p)) {
        bool quote = p.key_len > 0 && p.value_len == 0;
        for (size_t i = 0; i < p.value_len && !quote; i++) {
            unsigned char c = (unsigned char)p.value[i];
            quote = c <= ' ' || c == '"' || c == '\\' || c >= 0x7f;
        }
        jr_buf_u8(b, ' ');
        if (p.key_len) {
            jr_buf_json_escape(b, p.key, p.key_len);
            jr_buf_u8(b, '=');
        }
        if (quote)
            put_quoted(b, p.value, p.value_len);
        else
            jr_buf_put(b, p.value, p.value_len);
    }
}

static void put_json_pairs(struct jr_buf *b, const char *text)
{
    const char *again = text;
    const char *sep = ",\"msg\":\"";
    struct pair p;

    while (next_pair(&text, &p)) {
        if (p.key_len == 0)
            continue;
        jr_buf_u8(b, ',');
        put_quoted(b, p.key, p.key_len);
        jr_buf_u8(b, ':');
        if (is_json_number(p.value, p.value_len))
            jr_buf_put(b, p.value, p.value_len);
        else
            put_quoted(b, p.value, p.value_len);
    }
    /* Words without a key are a sentence. */
    while (next_pair(&again, &p)) {
        if (p.key_len > 0)
            continue;
        jr_buf_puts(b, sep);
        jr_buf_json_escape(b, p.value, p.value_len);
        sep = " ";
    }
    if (sep[0] == ' ')
        jr_buf_u8(b, '"');
}

static void write_line(uint64_t now_ms, enum jr_log_level level, const char *event,
                       const char *text)
{
    uint8_t space[LINE_MAX_];
    /* A buffer that never needs to grow, so nothing is allocated. */
    struct jr_buf b = {.p = space, .cap = sizeof space, .max = sizeof space - 1};

    if (config.json) {
        jr_buf_puts(&b, "{\"time\":\"");
        put_time(&b, now_ms);
        jr_buf_printf(&b, "\",\"level\":\"%s\",\"event\":", level_names[level]);
        put_quoted(&b, event, strnlen(event, 64));
        put_json_pairs(&b, text);
        jr_buf_puts(&b, "}\n");
    } else {
        put_time(&b, now_ms);
        jr_buf_printf(&b, " %s event=", level_words[level]);
        jr_buf_json_escape(&b, event, strnlen(event, 64));
        put_text_pairs(&b, text);
        jr_buf_u8(&b, '\n');
    }
    if (b.err == 0)
        config.write((const char *)b.p, b.n);
}

static void report_suppressed(uint64_t now_ms, const char *event, uint32_t n)
{
    char text[48];

    (void)snprintf(text, sizeof text, "suppressed=%u", n);
    write_line(now_ms, JR_LOG_WARN, event, text);
}

/* Once a window, say what events kept back that have not come again since. */
static void sweep(uint64_t now_ms, uint32_t window)
{
    uint32_t last = atomic_load(&swept), suppressed;
    char name[NAME_WORDS * 8];

    if (last == window || !atomic_compare_exchange_strong(&swept, &last, window))
        return;
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *s = &slots[i];
        if (!atomic_load_explicit(&s->named, memory_order_acquire))
            continue;
        (void)tally(s, window, 0, &suppressed);
        if (suppressed == 0)
            continue;
        for (unsigned k = 0; k < NAME_WORDS; k++) {
            uint64_t word = atomic_load_explicit(&s->name[k], memory_order_relaxed);
            memcpy(name + (size_t)k * 8, &word, 8);
        }
        report_suppressed(now_ms, name, suppressed);
    }
}

static bool admit(uint64_t now_ms, const char *event)
{
    uint32_t window = (uint32_t)(now_ms / WINDOW_MS), count, suppressed;
    struct slot *s;

    if (config.per_event_max == 0)
        return true;
    sweep(now_ms, window);
    s = slot_of(event);
    if (!s)
        return true;
    count = tally(s, window, 1, &suppressed);
    if (suppressed > 0)
        report_suppressed(now_ms, event, suppressed);
    return count <= config.per_event_max;
}

void jr_log_configure(const struct jr_log_config *c)
{
    config = *c;
    for (unsigned i = 0; i < SLOTS; i++)
        atomic_store(&slots[i].tally, 0);
}

void jr_log(enum jr_log_level level, const char *event, const char *fmt, ...)
{
    char text[TEXT_MAX];
    uint64_t now_ms;
    va_list ap;

    if (!jr_log_enabled(level))
        return;
    now_ms = config.now_ms();
    if (!admit(now_ms, event))
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    write_line(now_ms, level, event, text);
}
