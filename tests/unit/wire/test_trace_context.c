/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/trace_context.h"
#include "wire_test.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN  "b7ad6b7169203331"

static int parse(const char *text, struct jr_trace_context *ret)
{
    size_t n = strlen(text);
    char *copy = (char *)tight_copy(text, n);
    int err = jr_trace_context_parse(jr_str_of(copy, n), ret);
    free(copy);
    return err;
}

static void test_round_trip(void **state)
{
    static const char *const v[] = {"00-" TRACE "-" SPAN "-00", "00-" TRACE "-" SPAN "-01",
                                    "00-" TRACE "-" SPAN "-03"};
    struct jr_trace_context c;
    char text[JR_TRACE_CONTEXT_LEN + 1];
    (void)state;
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        assert_int_equal(parse(v[i], &c), 0);
        jr_trace_context_format(&c, text);
        assert_string_equal(text, v[i]);
    }
    assert_hex(c.trace_id, 16, TRACE);
    assert_hex(c.span_id, 8, SPAN);
}

static void test_what_is_taken(void **state)
{
    static const struct {
        const char *text;
        int flags; /* -1: refused */
    } rows[] = {
        {"00-" TRACE "-" SPAN "-ff", 3}, /* flags nobody has named yet are none */
        {"cc-" TRACE "-" SPAN "-01", 1}, /* a version to come */
        {"cc-" TRACE "-" SPAN "-01-more", 1},
        {"cc-" TRACE "-" SPAN "-01more", -1},
        {"00-" TRACE "-" SPAN "-01-more", -1},
        {"00-" TRACE "-" SPAN "-01 ", -1},
        {"ff-" TRACE "-" SPAN "-01", -1},
        {"0x-" TRACE "-" SPAN "-01", -1},
        {"00-" TRACE "-" SPAN "-0", -1},
        {"00-" TRACE "-" SPAN "-0G", -1},
        {"00-" TRACE "-" SPAN "_01", -1},
        {"00_" TRACE "-" SPAN "-01", -1},
        {"00-" TRACE "_" SPAN "-01", -1},
        {"00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01", -1},
        {"00-" TRACE "-B7AD6B7169203331-01", -1},
        {"00-00000000000000000000000000000000-" SPAN "-01", -1},
        {"00-" TRACE "-0000000000000000-01", -1},
        {"00", -1},
        {"", -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct jr_trace_context c = {.flags = 0x55};
        int err = parse(rows[i].text, &c);
        if (err == 0 ? c.flags != rows[i].flags : rows[i].flags != -1 || c.flags != 0x55)
            fail_msg("\"%s\": %d, flags %d", rows[i].text, err, c.flags);
    }
}

static void test_share(void **state)
{
    uint8_t id[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x40};
    unsigned picked = 0;
    struct jr_rng r;
    (void)state;
    assert_false(jr_trace_context_is_picked(id, 0));
    assert_false(jr_trace_context_is_picked(id, 0.25));
    assert_true(jr_trace_context_is_picked(id, 0.2500001));
    assert_true(jr_trace_context_is_picked(id, 1));
    memset(id + 8, 0xff, 8);
    assert_false(jr_trace_context_is_picked(id, 0.999999));
    assert_true(jr_trace_context_is_picked(id, 1));
    jr_rng_init(&r, 7, 0);
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t v = jr_rng_u64(&r);
        memcpy(id + 8, &v, 8);
        picked += jr_trace_context_is_picked(id, 0.1);
    }
    assert_in_range(picked, 900, 1100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_what_is_taken),
        cmocka_unit_test(test_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
