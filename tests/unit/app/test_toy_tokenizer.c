/* SPDX-License-Identifier: Apache-2.0 */
#include "app/mocker/toy_tokenizer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

struct fixture {
    struct jr_mem mem;
    struct jr_tokens t;
    struct jr_buf b;
};

static int setup(void **state)
{
    static struct fixture f;
    jr_mem_init(&f.mem);
    jr_tokens_init(&f.t, &f.mem);
    jr_buf_init(&f.b, 1 << 20);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    jr_tokens_deinit(&f->t);
    jr_mem_deinit(&f->mem);
    jr_buf_deinit(&f->b);
    return 0;
}

static const char *decoded(struct fixture *f)
{
    for (uint32_t i = 0; i < f->t.n; i++)
        jr_toy_decode(&f->b, f->t.v[i]);
    return jr_buf_str(&f->b);
}

static void text_comes_back(void **state)
{
    struct fixture *f = *state;
    static const char text[] = "The quick  brown fox, äöü — 12 tokens\n a bc def ghij";
    assert_int_equal(jr_toy_encode(&f->t, text, strlen(text)), 0);
    assert_string_equal(decoded(f), text);
}

static void words_of_three_letters(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(jr_toy_encode(&f->t, " quick the a", 12), 0);
    assert_int_equal(f->t.n, 4);
    assert_int_equal(f->t.v[3], JR_TOY_SPACE_WORD);
    assert_string_equal(decoded(f), " quick the a");
}

/* Whatever the engine answers tokenizes to the tokens it was made of. */
static void output_round_trips(void **state)
{
    struct fixture *f = *state;
    struct jr_tokens again;
    jr_tokens_init(&again, &f->mem);
    for (uint32_t i = 0; i < JR_TOY_OUTPUTS; i++)
        assert_int_equal(jr_toy_push(&f->t, JR_TOY_OUTPUT_FIRST + i * 7 % JR_TOY_OUTPUTS), 0);
    const char *text = decoded(f);
    assert_int_equal(jr_toy_encode(&again, text, strlen(text)), 0);
    assert_int_equal(again.n, f->t.n);
    assert_memory_equal(again.v, f->t.v, again.n * sizeof *again.v);
    jr_tokens_deinit(&again);
}

static void every_id_has_a_text(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(JR_TOY_VOCABULARY, 36828);
    for (uint32_t i = JR_TOY_WORD; i < JR_TOY_VOCABULARY; i++) {
        f->t.n = 0;
        jr_buf_clear(&f->b);
        jr_toy_decode(&f->b, i);
        assert_int_equal(jr_toy_encode(&f->t, jr_buf_str(&f->b), f->b.n), 0);
        assert_int_equal(f->t.n, 1);
        assert_int_equal(f->t.v[0], i);
    }
    jr_buf_clear(&f->b);
    jr_toy_decode(&f->b, 999999);
    assert_string_equal(jr_buf_str(&f->b), "<|999999|>");
}

static struct jr_str str(const char *s)
{
    return jr_str_of(s, strlen(s));
}

static void chat_template(void **state)
{
    struct fixture *f = *state;
    struct jr_errmsg e = {{0}};
    struct jr_str messages =
        str("[{\"content\": \"be \\\"kind\\\"\", \"role\": \"system\"},"
            "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"},"
            "{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]},"
            "{\"role\":\"assistant\",\"content\":null}]");
    assert_int_equal(jr_toy_encode_chat(&f->t, messages, str(""), true, &e), 0);
    assert_string_equal(decoded(f), "<s><|system|>be \"kind\"<|end|><|user|>hi<|end|>"
                                    "<|assistant|><|end|><|assistant|>");
    f->t.n = 0;
    jr_buf_clear(&f->b);
    assert_int_equal(jr_toy_encode_chat(&f->t, str("[]"), str("[1]"), false, &e), 0);
    assert_string_equal(decoded(f), "<s><|tool|>[1]<|end|>");
}

static void bad_chats(void **state)
{
    struct fixture *f = *state;
    struct jr_errmsg e = {{0}};
    assert_int_equal(jr_toy_encode_chat(&f->t, str("[{\"content\":\"x\"}]"), str(""), true, &e),
                     JR_EINVAL);
    assert_non_null(strstr(e.text, "role"));
    assert_true(jr_toy_encode_chat(&f->t, str("[{\"role\":\"user\""), str(""), true, &e) < 0);
    assert_true(jr_toy_encode_chat(&f->t, str("{}"), str(""), true, &e) < 0);
    assert_true(jr_toy_encode_chat(&f->t, str("[1]"), str(""), true, &e) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(text_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(words_of_three_letters, setup, teardown),
        cmocka_unit_test_setup_teardown(output_round_trips, setup, teardown),
        cmocka_unit_test_setup_teardown(every_id_has_a_text, setup, teardown),
        cmocka_unit_test_setup_teardown(chat_template, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_chats, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
