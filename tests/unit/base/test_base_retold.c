/* SPDX-License-Identifier: Apache-2.0 */
#include "base/retold.h"
#include "jr_test.h"
#include <string.h>

static void says_the_same_once_a_minute(void **state)
{
    (void)state;
    struct jr_retold r = {0};
    const uint64_t begin = 5; /* a clock that has just begun: nothing was said at 0 */
    assert_true(jr_retold_say(&r, "no room", begin));
    assert_string_equal(r.words.text, "no room");
    for (uint64_t ms = 1000; ms < JR_RETOLD_EVERY_MS; ms += 1000)
        assert_false(jr_retold_say(&r, "no room", begin + ms));
    assert_true(jr_retold_say(&r, "no room", begin + JR_RETOLD_EVERY_MS));
    assert_false(jr_retold_say(&r, "no room", begin + JR_RETOLD_EVERY_MS + 1000));
}

static void says_what_is_new_at_once(void **state)
{
    (void)state;
    struct jr_retold r = {0};
    assert_true(jr_retold_say(&r, "no room", 1000));
    assert_true(jr_retold_say(&r, "no leader", 2000));
    assert_string_equal(r.words.text, "no leader");
    jr_retold_over(&r);
    assert_string_equal(r.words.text, "");
    assert_true(jr_retold_say(&r, "no leader", 3000));
    assert_true(jr_retold_say(&r, "", 4000));
    assert_string_equal(r.words.text, "unknown");
    assert_false(jr_retold_say(&r, "", 5000));
}

static void long_words_are_the_same_words(void **state)
{
    (void)state;
    struct jr_retold r = {0};
    char words[2 * sizeof r.words.text];
    memset(words, 'x', sizeof words);
    words[sizeof words - 1] = '\0';
    assert_true(jr_retold_say(&r, words, 1000));
    assert_false(jr_retold_say(&r, words, 2000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_the_same_once_a_minute),
        cmocka_unit_test(says_what_is_new_at_once),
        cmocka_unit_test(long_words_are_the_same_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
