/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "jr_test.h"
#include <string.h>

static void compares(void **state)
{
    (void)state;
    assert_true(jr_str_eq(jr_str_of("abcd", 3), "abc"));
    assert_false(jr_str_eq(jr_str_of("abcd", 3), "abcd"));
    assert_true(jr_str_eq(jr_str_of(NULL, 0), ""));
    assert_true(jr_str_ieq(jr_str_of("Content-LENGTH", 14), "content-length"));
    assert_false(jr_str_ieq(jr_str_of("a@", 2), "a`"));
}

static void slugs_as_dynamo(void **state)
{
    static const struct {
        const char *in, *want;
    } cases[] = {
        {"namespace.dynamo.component.Backend.kv-events",
         "namespace-dynamo-component-backend-kv-events"},
        {"a_b", "a-b"},
        {"__a_", "a-"},
        {"..a", "a"},
        {"-a", "-a"}, /* only '_' of the slug is stripped */
        {"_-_a", "--a"},
        {"\xc3\x89t\xc3\xa9", "t-"}, /* one mark a character, not a byte; leading dropped */
        {"x\xf0\x9f\x98\x80y", "x-y"},
        {"\xe2\x84\xaa"
         "elvin",
         "kelvin"}, /* Unicode lower case of KELVIN SIGN */
        {"a\xc4\xb0", "ai-"},
        {"a\xff\xc3", "a--"},
        {"", ""},
        {"___", ""},
    };
    char dst[64];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(jr_str_slug(cases[i].in, dst, sizeof dst), 0);
        assert_string_equal(dst, cases[i].want);
    }
    assert_int_equal(jr_str_slug("abc", dst, 4), 0);
    assert_int_equal(jr_str_slug("abcd", dst, 4), JR_ELIMIT);
    assert_int_equal(jr_str_slug("", dst, 0), JR_ELIMIT);
}

static void encodes_base64url(void **state)
{
    /* RFC 4648 §10, and bytes that need the two URL digits. */
    static const struct {
        const char *in, *want;
    } cases[] = {{"", ""},
                 {"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg=="},
                 {"fooba", "Zm9vYmE="},
                 {"foobar", "Zm9vYmFy"},
                 {"\xfb\xff\xfe", "-__-"}};
    struct jr_buf b;

    (void)state;
    jr_buf_init(&b, 100);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jr_buf_clear(&b);
        jr_str_base64url(&b, cases[i].in, strlen(cases[i].in));
        assert_string_equal(jr_buf_str(&b), cases[i].want);
    }
    jr_buf_deinit(&b);
}

static void copies_with_truncation(void **state)
{
    char dst[4];

    (void)state;
    assert_true(jr_str_copy(dst, sizeof dst, "abc"));
    assert_string_equal(dst, "abc");
    assert_false(jr_str_copy(dst, sizeof dst, "abcd"));
    assert_string_equal(dst, "abc");
    assert_false(jr_str_copy(dst, 0, ""));
}

static void packs_one_behind_the_other(void **state)
{
    char room[8];
    char *at = room;

    (void)state;
    struct jr_str a = jr_str_pack(&at, jr_str_of("abc", 3));
    struct jr_str none = jr_str_pack(&at, jr_str_of(NULL, 0));
    struct jr_str b = jr_str_pack(&at, jr_str_of("de", 2));
    assert_true(jr_str_eq(a, "abc") && jr_str_eq(b, "de"));
    assert_int_equal(none.n, 0);
    assert_ptr_equal(a.p, room);
    assert_ptr_equal(b.p, room + 3);
    assert_ptr_equal(at, room + 5);
}

static void measures_distance(void **state)
{
    (void)state;
    assert_int_equal(jr_str_distance("kitten", "sitting"), 3);
    assert_int_equal(jr_str_distance("", "abc"), 3);
    assert_int_equal(jr_str_distance("same", "same"), 0);
    assert_int_equal(jr_str_distance("--router-mod", "--router-mode"), 1);
}

static const char *nearest(const char *typed)
{
    static struct jr_str_nearest n;
    n = (struct jr_str_nearest){.typed = typed};
    static const char *const names[] = {"ctl", "frontend", "router", "host", "http-port", "state"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        jr_str_nearer(&n, names[i]);
    return n.name;
}

static void names_what_is_near(void **state)
{
    (void)state;
    assert_string_equal(nearest("foo"), "");
    assert_string_equal(nearest("bogus"), "");
    assert_string_equal(nearest(""), "");
    assert_string_equal(nearest("frontned"), "frontend");
    assert_string_equal(nearest("front"), "frontend");
    assert_string_equal(nearest("htpp-port"), "http-port");
    assert_string_equal(nearest("http"), "http-port");
    assert_string_equal(nearest("stat"), "state");
    assert_string_equal(nearest("ctll"), "ctl");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares),
        cmocka_unit_test(slugs_as_dynamo),
        cmocka_unit_test(encodes_base64url),
        cmocka_unit_test(copies_with_truncation),
        cmocka_unit_test(packs_one_behind_the_other),
        cmocka_unit_test(measures_distance),
        cmocka_unit_test(names_what_is_near),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
