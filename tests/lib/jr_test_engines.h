/* SPDX-License-Identifier: Apache-2.0 */
/* jr_test_engines: reads tests/fixtures/engines, line by line (its README has the format). */
#ifndef JR_TEST_ENGINES_H
#define JR_TEST_ENGINES_H

#include "base/mem.h"
#include "jr_test.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct jr_engines_file {
    char *text; /* owned */
    char *at;
};

/* A B line. */
struct jr_engines_message {
    uint64_t seq;
    double ts;
    char rank[16]; /* "-": not said */
    uint32_t n_events;
    uint8_t *payload; /* the caller's memory */
    size_t n;
};

static inline struct jr_engines_file jr_engines_open(const char *name)
{
    char *path = jr_xprintf("engines/%s.txt", name);
    struct jr_engines_file f = {.text = (char *)jr_test_fixture(path, NULL)};
    f.at = f.text;
    jr_xfree(path);
    return f;
}

static inline void jr_engines_close(struct jr_engines_file *f)
{
    jr_xfree(f->text);
}

/* The next line without its line feed, borrowed; NULL at the end. */
static inline char *jr_engines_line(struct jr_engines_file *f)
{
    char *line = f->at;
    char *lf = strchr(line, '\n');
    if (*line == '\0' || lf == NULL) {
        return NULL;
    }
    *lf = '\0';
    f->at = lf + 1;
    return line;
}

static inline size_t jr_engines_base64(const char *s, size_t n, uint8_t *dst)
{
    static const char *abc = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t acc = 0;
    unsigned bits = 0;
    size_t out = 0;
    for (size_t i = 0; i < n && s[i] != '='; i++) {
        const char *at = strchr(abc, s[i]);
        assert_non_null(at);
        acc = acc << 6 | (uint32_t)(at - abc);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            dst[out++] = (uint8_t)(acc >> bits);
        }
    }
    return out;
}

/* Parses a B line; the payload goes to `payload`, which holds any of them at a MiB. */
static inline struct jr_engines_message jr_engines_message(const char *line, uint8_t *payload)
{
    struct jr_engines_message m = {.payload = payload};
    unsigned long long seq;
    int at = 0;
    assert_int_equal(sscanf(line, "B %llu %lf %15s %u %n", &seq, &m.ts, m.rank, &m.n_events, &at),
                     4);
    assert_true(at > 0);
    m.seq = seq;
    m.n = jr_engines_base64(line + at, strlen(line + at), payload);
    return m;
}

#endif
