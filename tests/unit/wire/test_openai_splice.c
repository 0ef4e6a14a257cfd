/* SPDX-License-Identifier: Apache-2.0 */
/* One stream of two workers' parts: the request for the rest, the rest's chunks. */
#include "jr_test.h"

#include "wire/openai_splice.h"

#include <string.h>

static struct jr_str text(const char *s)
{
    return jr_str_of(s, strlen(s));
}

/* ---- the request ---- */

static const struct {
    const char *body;
    const char *want; /* NULL: not to be gone on with */
} bodies[] = {
    {"{\"model\":\"m\",\"prompt\":[1,2],\"max_tokens\":9}",
     "{\"model\":\"m\",\"prompt\":[1,2,7,8],\"max_tokens\":7}"},
    {" { \"max_tokens\" : 3 , \"prompt\" : [ 1 ] , \"n\":1.0, \"temperature\":0.5, \"stop\":null "
     "} ",
     " { \"max_tokens\" : 1 , \"prompt\" : [ 1 ,7,8] , \"n\":1.0, \"temperature\":0.5, "
     "\"stop\":null } "},
    {"{\"prompt\":[1],\"max_tokens\":9,\"min_tokens\":1,\"echo\":false,\"presence_penalty\":0.0,"
     "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"nvext\":{\"a\":[{}]}}",
     "{\"prompt\":[1,7,8],\"max_tokens\":7,\"min_tokens\":0,\"echo\":false,\"presence_penalty\":0."
     "0,"
     "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"nvext\":{\"a\":[{}]}}"},
    {"{\"prompt\":[1],\"max_tokens\":9,\"min_tokens\":5,\"best_of\":1}",
     "{\"prompt\":[1,7,8],\"max_tokens\":7,\"min_tokens\":3,\"best_of\":1}"},
    {"{\"prompt\":[1]}", NULL}, /* the default is the engine's */
    {"{\"prompt\":[1],\"max_tokens\":null}", NULL},
    {"{\"prompt\":[1],\"max_tokens\":2}", NULL}, /* all are produced */
    {"{\"prompt\":[1],\"max_tokens\":2.5}", NULL},
    {"{\"prompt\":\"text\",\"max_tokens\":9}", NULL},
    {"{\"max_tokens\":9}", NULL},
    {"{\"prompt\":[ ],\"max_tokens\":9}", NULL},
    {"{\"prompt\":[1],\"max_tokens\":9,\"n\":2}", NULL},
    {"{\"prompt\":[1],\"max_tokens\":9,\"best_of\":2}", NULL},
    {"{\"prompt\":[1],\"max_tokens\":9,\"echo\":true}", NULL},
    {"{\"prompt\":[1],\"max_tokens\":9,\"stop\":[\"x\"]}", NULL},
    {"{\"prompt\":[1],\"max_tokens\":9,\"suffix\":\"x\"}", NULL},
    {"{\"prompt\":[1],\"max_tokens\":9,\"logprobs\":0}", NULL},
    {"{\"prompt\":[1],\"max_tokens\":9,\"frequency_penalty\":0.1}", NULL},
    {"{\"prompt\":[1],\"max_tokens\":9,\"response_format\":{\"type\":\"json_object\"}}", NULL},
    {"{\"prompt\":[1],\"max_tokens\":9,\"to_come\":1}", NULL},
};

static void test_bodies(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct jr_buf out;
        jr_buf_init(&out, 4096);
        jr_buf_puts(&out, "before");
        int rv = jr_openai_splice_body(text(bodies[i].body), text("7,8"), 2, &out);
        if (!bodies[i].want) {
            assert_int_equal(rv, JR_EUNSUPPORTED);
        } else {
            assert_int_equal(rv, 0);
            assert_string_equal(jr_buf_str(&out) + strlen("before"), bodies[i].want);
        }
        jr_buf_deinit(&out);
    }
}

/* Cut anywhere it is an error, not a request. */
static void test_broken_bodies(void **state)
{
    static const char body[] = "{\"model\":\"m\",\"prompt\":[1,2],\"max_tokens\":9}";
    (void)state;
    for (size_t n = 0; n < sizeof body - 1; n++) {
        struct jr_buf out;
        jr_buf_init(&out, 4096);
        assert_true(jr_openai_splice_body(jr_str_of(body, n), text("7"), 1, &out) < 0);
        jr_buf_deinit(&out);
    }
}

static void test_no_room(void **state)
{
    struct jr_buf out;
    (void)state;
    jr_buf_init(&out, 10);
    assert_int_equal(jr_openai_splice_body(text(bodies[0].body), text("7,8"), 2, &out), JR_ELIMIT);
    jr_buf_deinit(&out);
}

/* ---- the chunks ---- */

static const struct {
    const char *chunk, *want;
} chunks[] = {
    {"{\"id\":\"b\",\"object\":\"o\",\"created\":5,\"model\":\"n\",\"choices\":[]}",
     "{\"id\":\"a\",\"object\":\"o\",\"created\":4,\"model\":\"m\",\"choices\":[]}"},
    {" {\"choices\":[{\"text\":\"\\u00e9\",\"prompt_token_ids\":[1,2],\"token_ids\":[3]}], \"id\" "
     ": \"b\"}",
     " {\"choices\":[{\"text\":\"\\u00e9\",\"prompt_token_ids\":null,\"token_ids\":[3]}], \"id\" : "
     "\"a\"}"},
    {"{\"usage\":{\"prompt_tokens\":12,\"total_tokens\":15,\"completion_tokens\":3,"
     "\"prompt_tokens_details\":{\"cached_tokens\":12}}}",
     "{\"usage\":{\"prompt_tokens\":10,\"total_tokens\":15,\"completion_tokens\":5,"
     "\"prompt_tokens_details\":{\"cached_tokens\":10}}}"},
    {"{\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":4,\"x\":1}}}",
     "{\"usage\":{\"prompt_tokens_details\":{\"cached_tokens\":4,\"x\":1}}}"},
    {"{\"usage\":null,\"choices\":null,\"error\":{\"message\":\"x\"}}",
     "{\"usage\":null,\"choices\":null,\"error\":{\"message\":\"x\"}}"},
    {"{\"usage\":{\"prompt_tokens_details\":null,\"completion_tokens\":null}}",
     "{\"usage\":{\"prompt_tokens_details\":null,\"completion_tokens\":null}}"},
};

static void test_chunks(void **state)
{
    struct jr_openai_splice s = {.prompt_tokens = 10, .produced = 2};
    static const char first[] =
        "{\"created\":4,\"id\":\"a\",\"choices\":[{\"id\":\"no\"}],\"model\":\"m\"}";
    (void)state;
    assert_int_equal(jr_openai_chunk_head(text(first), &s.head), 0);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        struct jr_buf out;
        jr_buf_init(&out, 4096);
        assert_int_equal(jr_openai_splice_chunk(text(chunks[i].chunk), &s, &out), 0);
        assert_string_equal(jr_buf_str(&out), chunks[i].want);
        jr_buf_deinit(&out);
    }
    for (size_t n = 0; n < strlen(chunks[0].chunk); n++) {
        struct jr_buf out;
        jr_buf_init(&out, 4096);
        assert_true(jr_openai_splice_chunk(jr_str_of(chunks[0].chunk, n), &s, &out) < 0);
        jr_buf_deinit(&out);
    }
}

/* A stream without such fields gets none. */
static void test_head_that_says_nothing(void **state)
{
    struct jr_openai_splice s = {.produced = 2};
    struct jr_buf out;
    (void)state;
    jr_buf_init(&out, 4096);
    assert_int_equal(jr_openai_chunk_head(text("{\"choices\":[]}"), &s.head), 0);
    assert_int_equal(jr_openai_splice_chunk(text("{\"id\":\"b\"}"), &s, &out), 0);
    assert_string_equal(jr_buf_str(&out), "{\"id\":\"b\"}");
    jr_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_broken_bodies),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_head_that_says_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
