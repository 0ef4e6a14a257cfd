/* SPDX-License-Identifier: Apache-2.0 */
/* The model of a body that is not read otherwise, and another one in its place. */
#include "jr_test.h"

#include "wire/openai_model.h"

#include <string.h>

static const struct {
    const char *body, *model; /* raw; NULL: none */
    bool stream;
    const char *want; /* with the model a"b in its place */
} rows[] = {
    {"{\"model\":\"m\",\"input\":[1,{\"model\":\"no\"}]}", "\"m\"", false,
     "{\"model\":\"a\\\"b\",\"input\":[1,{\"model\":\"no\"}]}"},
    {" { \"input\" : \"x\" , \"model\" : \"\\u0041\" , \"stream\" : true } ", "\"\\u0041\"", true,
     " { \"input\" : \"x\" , \"model\" : \"a\\\"b\" , \"stream\" : true } "},
    {"{\"model\":null,\"stream\":\"yes\"}", NULL, false, NULL},
    {"{\"model\":[\"m\"]}", NULL, false, NULL},
    {"{}", NULL, false, NULL},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct jr_str body = jr_str_of(rows[i].body, strlen(rows[i].body));
        struct jr_openai_outline o;
        struct jr_buf out;
        assert_int_equal(jr_openai_outline(body, &o), 0);
        assert_int_equal(o.stream, rows[i].stream);
        assert_int_equal(o.model.n > 0, rows[i].model != NULL);
        if (!rows[i].model)
            continue;
        assert_true(jr_str_eq(jr_str_of(body.p + o.model.off, o.model.n), rows[i].model));
        jr_buf_init(&out, 1000);
        jr_openai_put_model(body, o.model, "a\"b", &out);
        assert_string_equal(jr_buf_str(&out), rows[i].want);
        jr_buf_deinit(&out);
    }
}

static void test_what_is_no_object(void **state)
{
    static const char *const bodies[] = {"", "[1]", "{\"model\":\"m\"", "{\"model\":\"m\"}x",
                                         "--b\r\n"};
    struct jr_openai_outline o;
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        assert_true(jr_openai_outline(jr_str_of(bodies[i], strlen(bodies[i])), &o) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_what_is_no_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
