/* SPDX-License-Identifier: Apache-2.0 */
/* A capture of Dynamo 1.0.2: its radix-state and the messages behind it, and the messages before it. */
#include "app/driver/dynamo_import.h"
#include "core/state.h"
#include "jr_test.h"
#include "wire/event_codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREATED 777

struct replica {
    struct jr_mem mem;
    struct jr_members members;
    struct jr_state *s;
    struct jr_event_decoder *decoder;
    struct jr_arena arena;
};

static void start(struct replica *r)
{
    jr_mem_init(&r->mem);
    jr_members_init(&r->members, &r->mem);
    assert_int_equal(jr_state_create(&r->mem, &r->members, &r->s), 0);
    r->decoder = jr_event_decoder_create();
    jr_arena_init(&r->arena, JR_EVENT_ARENA_MAX);
}

static void stop(struct replica *r)
{
    jr_state_destroy(r->s);
    jr_members_deinit(&r->members);
    jr_mem_deinit(&r->mem);
    jr_event_decoder_destroy(r->decoder);
    jr_arena_deinit(&r->arena);
}

static void apply(struct replica *r, uint64_t seq, const char *payload, size_t n)
{
    struct jr_log_msg msg = {.seq = seq};
    uint32_t effect;
    assert_int_equal(
        jr_event_decode(r->decoder, jr_str_of("kv-events", 9), payload, n, NULL, &r->arena, &msg),
        0);
    assert_int_equal(msg.kind, JR_LOG_KIND_BATCH);
    assert_int_equal(jr_state_apply(r->s, &msg, &effect), 0);
    jr_arena_reset(&r->arena);
}

/* The payload of a line, a JSON text within a JSON text; only quotes are escaped in it. */
static size_t payload_of(char *line, char **ret)
{
    static const char key[] = "\"payload\": \"";
    char *from = strstr(line, key), *to;
    assert_non_null(from);
    *ret = to = from += sizeof key - 1;
    for (; *from != '"'; from++) {
        from += *from == '\\';
        *to++ = *from;
    }
    return (size_t)(to - *ret);
}

/* Messages first to last of the capture. */
static void replay(struct replica *r, uint64_t first, uint64_t last)
{
    size_t n;
    char *text = (char *)jr_test_fixture("/dynamo/kv-events-mocker.jsonl", &n);
    for (char *line = text; line < text + n; line++) {
        char *end = memchr(line, '\n', (size_t)(text + n - line)), *payload;
        uint64_t seq = strtoull(line + strlen("{\"seq\": "), NULL, 10);
        if (!end)
            break;
        *end = '\0';
        if (seq >= first && seq <= last) {
            size_t len = payload_of(line, &payload);
            apply(r, seq, payload, len);
        }
        line = end;
    }
    jr_xfree(text);
    assert_int_equal(r->s->seq, last);
}

static void test_snapshot_and_what_follows(void **state)
{
    (void)state;
    struct replica r;
    struct jr_image *image = NULL;
    struct jr_state_import x;
    struct jr_errmsg e = {0};
    size_t n;
    uint8_t *bytes = jr_test_fixture("/dynamo/radix-state.bin", &n);
    start(&r);
    assert_int_equal(jr_dynamo_import(bytes, n, CREATED, 230, &image, &e), 0);
    assert_int_equal(image->seq, 230);
    assert_int_equal(jr_state_import_begin(r.s, &x, image), 0);
    int err;
    do
        err = jr_state_import_step(r.s, &x, 100);
    while (err == JR_EAGAIN);
    assert_int_equal(err, 0); /* both digests, too */
    jr_state_import_end(r.s, &x);
    jr_image_destroy(image);
    replay(&r, 231, 331);
    assert_int_equal(r.s->counters.dropped_unknown_parent, 0);
    assert_int_equal(jr_index_entries(r.s->index), 254);
    stop(&r);
    jr_xfree(bytes);
}

static void test_from_the_first_message(void **state)
{
    (void)state;
    struct replica r;
    start(&r);
    replay(&r, 1, 114);
    assert_int_equal(r.s->counters.dropped_unknown_parent, 0);
    assert_int_equal(jr_index_entries(r.s->index), 250);
    stop(&r);
}

static void test_half_an_object(void **state)
{
    (void)state;
    struct jr_image *image = NULL;
    struct jr_errmsg e = {0};
    size_t n;
    uint8_t *bytes = jr_test_fixture("/dynamo/radix-state.bin", &n);
    assert_true(jr_dynamo_import(bytes, n / 2, CREATED, 230, &image, &e) < 0);
    assert_null(image);
    jr_xfree(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_and_what_follows),
        cmocka_unit_test(test_from_the_first_message),
        cmocka_unit_test(test_half_an_object),
    };
    return cmocka_run_group_tests_name("dynamo_import", tests, NULL, NULL);
}
