/* SPDX-License-Identifier: Apache-2.0 */
/* The goldens were read by OpenTelemetry's own types (PyPI opentelemetry-proto 1.x), field by field. */
#include "wire/otlp_codec.h"
#include "wire_test.h"

#define TEXT(s) jr_str_of((s), sizeof(s) - 1)

static const struct jr_otlp_attr attrs[] = {
    {.key = "a.text", .type = JR_OTLP_TEXT, .text = {"b", 1}},
    {.key = "a.number", .type = JR_OTLP_NUMBER, .number = -2},
    {.key = "a.real", .type = JR_OTLP_REAL, .real = 1.5},
    {.key = "a.flag", .type = JR_OTLP_FLAG, .flag = true},
};

static const struct jr_otlp_event first_token = {.unix_ns = 3, .name = "first_token"};

static struct jr_otlp_span whole_span(void)
{
    struct jr_otlp_span s = {
        .has_parent = true,
        .parent_is_remote = true,
        .trace_state = TEXT("k=v"),
        .name = TEXT("upstream"),
        .kind = JR_OTLP_CLIENT,
        .start_unix_ns = 1,
        .end_unix_ns = 0x0102030405060708,
        .attrs = attrs,
        .n_attrs = sizeof attrs / sizeof *attrs,
        .event = &first_token,
        .failed = true,
        .words = TEXT("gone"),
    };
    for (unsigned i = 0; i < 16; i++)
        s.context.trace_id[i] = (uint8_t)(0x10 + i);
    memset(s.context.span_id, 0x22, 8);
    memset(s.parent_id, 0x33, 8);
    s.context.flags = JR_TRACE_SAMPLED;
    return s;
}

static void test_golden_span(void **state)
{
    struct jr_otlp_span s = whole_span();
    struct jr_buf b;
    (void)state;
    jr_buf_init(&b, JR_SPAN_BYTES_MAX);
    assert_int_equal(jr_otlp_encode_span(&s, &b), 0);
    assert_hex(b.p, b.n,
               "0a10101112131415161718191a1b1c1d1e1f120822222222222222221a036b3d7622083333333333"
               "3333332a08757073747265616d30033901000000000000004108070605040302014a0d0a06612e74"
               "65787412030a01624a170a08612e6e756d626572120b18feffffffffffffffff014a130a06612e72"
               "65616c120921000000000000f83f4a0c0a06612e666c6167120210015a1609030000000000000012"
               "0b66697273745f746f6b656e7a081204676f6e651802850101030000");
    jr_buf_deinit(&b);
}

static void test_golden_request(void **state)
{
    struct jr_otlp_span s = {.name = TEXT("r"), .kind = JR_OTLP_INTERNAL};
    struct jr_buf resource, span, b;
    (void)state;
    memset(&s.context, 0x44, sizeof s.context);
    s.context.flags = 0;
    jr_buf_init(&resource, JR_SPAN_BYTES_MAX);
    jr_buf_init(&span, JR_SPAN_BYTES_MAX);
    jr_buf_init(&b, JR_SPAN_BYTES_MAX);
    assert_int_equal(jr_otlp_encode_resource(attrs, 1, &resource), 0);
    assert_int_equal(jr_otlp_encode_span(&s, &span), 0);
    struct jr_str bytes = jr_str_of((const char *)span.p, span.n);
    const struct jr_str spans[] = {bytes, bytes};
    const struct jr_otlp_request r = {
        .resource = jr_str_of((const char *)resource.p, resource.n),
        .scope = "s",
        .version = "1",
        .spans = spans,
        .n_spans = 2,
    };
    assert_int_equal(jr_otlp_encode_request(&r, &b), 0);
    assert_hex(b.p, b.n,
               "0a6d0a0f0a0d0a06612e7465787412030a0162125a0a060a017312013112270a1044444444444444"
               "444444444444444444120844444444444444442a0172300185010001000012270a10444444444444"
               "44444444444444444444120844444444444444442a01723001850100010000");
    jr_buf_deinit(&b);
    jr_buf_deinit(&span);
    jr_buf_deinit(&resource);
}

/* One bad byte in it, and a collector refuses the whole request. */
static void test_texts_are_utf8(void **state)
{
    static const char bad[] = "x\xff\xc3";
    struct jr_otlp_attr attr = {.key = "k", .type = JR_OTLP_TEXT, .text = TEXT(bad)};
    struct jr_otlp_span s = {
        .name = TEXT(bad), .kind = JR_OTLP_SERVER, .attrs = &attr, .n_attrs = 1};
    struct jr_buf b;
    (void)state;
    jr_buf_init(&b, JR_SPAN_BYTES_MAX);
    assert_int_equal(jr_otlp_encode_span(&s, &b), 0);
    unsigned replaced = 0;
    for (size_t i = 0; i + 2 < b.n; i++)
        replaced += memcmp(b.p + i, "\xef\xbf\xbd", 3) == 0;
    assert_int_equal(replaced, 4);
    assert_null(memchr(b.p, 0xff, b.n));
    jr_buf_deinit(&b);
}

static size_t encoded_length(struct jr_str text)
{
    struct jr_otlp_attr attr = {.key = "k", .type = JR_OTLP_TEXT, .text = text};
    struct jr_buf b;
    jr_buf_init(&b, JR_SPAN_BYTES_MAX);
    assert_int_equal(jr_otlp_encode_resource(&attr, 1, &b), 0);
    size_t n = b.n;
    jr_buf_deinit(&b);
    return n;
}

static void test_texts_are_cut(void **state)
{
    char text[JR_SPAN_TEXT_MAX + 10];
    (void)state;
    memset(text, 'a', sizeof text);
    size_t whole = encoded_length(jr_str_of(text, JR_SPAN_TEXT_MAX));
    assert_int_equal(encoded_length(jr_str_of(text, sizeof text)), whole);
    memcpy(text + JR_SPAN_TEXT_MAX - 1, "\xc3\xa4", 2); /* not between its two bytes */
    assert_int_equal(encoded_length(jr_str_of(text, sizeof text)), whole - 1);
    memset(text, 0x80, sizeof text);
    assert_true(encoded_length(jr_str_of(text, sizeof text)) < 4 * JR_SPAN_TEXT_MAX);
}

static void test_no_room(void **state)
{
    struct jr_otlp_span s = whole_span();
    struct jr_buf b;
    (void)state;
    jr_buf_init(&b, 100);
    jr_buf_puts(&b, "before");
    assert_int_equal(jr_otlp_encode_span(&s, &b), JR_ELIMIT);
    assert_string_equal(jr_buf_str(&b), "before");
    jr_buf_deinit(&b);
}

static int decode(const char *hex, uint64_t *ret, struct jr_errmsg *words)
{
    size_t n;
    uint8_t *p = unhex(hex, &n), *copy = tight_copy(p, n);
    int err = jr_otlp_decode_response(copy, n, ret, words);
    free(copy);
    jr_xfree(p);
    return err;
}

static void test_response(void **state)
{
    struct jr_errmsg words = {""};
    uint64_t rejected = 99;
    (void)state;
    assert_int_equal(decode("", &rejected, &words), 0);
    assert_int_equal(rejected, 0);
    assert_int_equal(decode("0a0608031202686f", &rejected, &words), 0);
    assert_int_equal(rejected, 3);
    assert_string_equal(words.text, "ho");
    assert_int_equal(decode("0a0b08ffffffffffffffffff01", &rejected, &words), 0);
    assert_int_equal(rejected, 0);                                  /* less than none */
    assert_int_equal(decode("7b22", &rejected, &words), JR_EPROTO); /* JSON, say */
    assert_int_equal(decode("0a06080312", &rejected, &words), JR_EPROTO);
    char *long_one = jr_xalloc(JR_OTLP_REPLY_MAX + 1);
    assert_int_equal(jr_otlp_decode_response(long_one, JR_OTLP_REPLY_MAX + 1, &rejected, &words),
                     JR_ELIMIT);
    jr_xfree(long_one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_span),    cmocka_unit_test(test_golden_request),
        cmocka_unit_test(test_texts_are_utf8), cmocka_unit_test(test_texts_are_cut),
        cmocka_unit_test(test_no_room),        cmocka_unit_test(test_response),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
