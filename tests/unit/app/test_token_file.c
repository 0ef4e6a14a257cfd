/* SPDX-License-Identifier: Apache-2.0 */
#include "app/token_file.h"

#include "jr_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/jr_token_XXXXXX";

static int make(void **state)
{
    (void)state;
    const int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int drop(void **state)
{
    (void)state;
    return unlink(path);
}

/* want NULL: refused, and what was there stays. */
static void check(const char *bytes, size_t n, const char *want)
{
    char token[JR_TOKEN_MAX + 1] = "before";
    struct jr_errmsg e = {""};
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);

    assert_int_equal(jr_token_file_read(path, token, &e), want ? 0 : JR_ECONFIG);
    assert_string_equal(token, want ? want : "before");
    if (!want) {
        assert_non_null(strstr(e.text, path));
        assert_non_null(strstr(e.text, "1 to 512 visible"));
        assert_null(strstr(e.text, "s3cret"));
    }
}

static void test_rule(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"s3cret", "s3cret"},
        {"s3cret\n", "s3cret"},
        {"s3cret \t\r\n\n", "s3cret"},
        {"!~", "!~"},
        {"", NULL},
        {" \n", NULL},
        {"s3cret\nmore\n", NULL}, /* two lines */
        {"\ns3cret\n", NULL},
        {"s3cret more\n", NULL},
        {" s3cret", NULL},
        {"s3cret\x7f", NULL},
        {"s3cret\xc3\xa4", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check(rows[i].text, strlen(rows[i].text), rows[i].want);
    check("s3cret\0", 7, NULL);
    check("s3\0cret\n", 8, NULL);
}

static void test_length(void **state)
{
    (void)state;
    char text[4096], want[JR_TOKEN_MAX + 1];
    memset(text, 'x', sizeof text);
    memset(want, 'x', JR_TOKEN_MAX);
    want[JR_TOKEN_MAX] = '\0';
    check(text, JR_TOKEN_MAX, want);
    check(text, JR_TOKEN_MAX + 1, NULL);
    check(text, sizeof text, NULL);
    text[JR_TOKEN_MAX] = '\n';
    check(text, JR_TOKEN_MAX + 1, want);
    memset(text + JR_TOKEN_MAX, '\n', sizeof text - JR_TOKEN_MAX);
    check(text, sizeof text, NULL); /* longer than is read: what is behind is not known */
}

static void test_not_read(void **state)
{
    (void)state;
    static const struct {
        const char *path, *why;
    } rows[] = {{"/no/such", "No such file"}, {"/", "Is a directory"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char token[JR_TOKEN_MAX + 1] = "before";
        struct jr_errmsg e = {""};
        assert_int_equal(jr_token_file_read(rows[i].path, token, &e), JR_ECONFIG);
        assert_string_equal(token, "before");
        assert_non_null(strstr(e.text, rows[i].path));
        assert_non_null(strstr(e.text, rows[i].why));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rule),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_not_read),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
