/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace.h"
#include "jr_test.h"
#include <string.h>

static char got[2048];
static int calls;

static void keep(void *ctx, enum jr_trace_level level, const char *event, const char *text)
{
    assert_ptr_equal(ctx, got);
    assert_int_equal(level, JR_TRACE_WARN);
    assert_string_equal(event, "a.b");
    (void)strncpy(got, text, sizeof got - 1);
    calls++;
}

static void emits_formatted_text(void **state)
{
    const struct jr_trace t = {keep, got};

    (void)state;
    jr_trace_emit(&t, JR_TRACE_WARN, "a.b", "n=%d s=%s", 5, "x");
    assert_string_equal(got, "n=5 s=x");
    jr_trace_emit(&t, JR_TRACE_WARN, "a.b", "%1500d", 5); /* cut, not overrun */
    assert_in_range(strlen(got), 256, 1499);
    assert_int_equal(calls, 2);
}

static void no_sink_is_fine(void **state)
{
    const struct jr_trace empty = {NULL, NULL};

    (void)state;
    jr_trace_emit(NULL, JR_TRACE_INFO, "a", "b");
    jr_trace_emit(&empty, JR_TRACE_INFO, "a", "b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(emits_formatted_text),
        cmocka_unit_test(no_sink_is_fine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
