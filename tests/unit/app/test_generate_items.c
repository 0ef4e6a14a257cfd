/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker's stream becomes, and what a request of Dynamo's becomes for the worker. */
#include "app/router/generate_body.h"
#include "app/router/generate_items.h"
#include "jr_test.h"

#include <string.h>

static struct jr_buf out;

static const char *item(struct jr_generate_items *g, const char *data)
{
    jr_buf_clear(&out);
    jr_generate_items_event(g,
                            &(struct jr_sse_event){.data = jr_str_of(data, strlen(data)),
                                                   .done = strcmp(data, "[DONE]") == 0},
                            &out);
    return jr_buf_str(&out);
}

/* The last item waits for the usage, which comes in a chunk of its own. */
static void test_usage_is_of_the_last_item(void **state)
{
    (void)state;
    struct jr_generate_items g = {.worker_id = 7, .dp_rank = 2};
    const char *first = item(
        &g,
        "{\"choices\":[{\"index\":0,\"text\":\"a\",\"token_ids\":[5],\"finish_reason\":null}]}");
    assert_non_null(strstr(first, "\"token_ids\":[5]"));
    assert_non_null(strstr(first, "\"decode_worker_id\":7,\"decode_dp_rank\":2"));
    assert_string_equal(item(&g, "{\"choices\":[{\"index\":0,\"text\":\"b\",\"token_ids\":[6],"
                                 "\"finish_reason\":\"abort\"}]}"),
                        "");
    const char *last = item(&g, "{\"choices\":[],\"usage\":{\"completion_tokens\":2}}");
    assert_non_null(strstr(last, "\"finish_reason\":\"cancelled\""));
    assert_non_null(strstr(last, "\"completion_usage\":{\"completion_tokens\":2}"));
    assert_null(strstr(last, "decode_worker_id"));
    assert_string_equal(item(&g, "[DONE]"), "data: [DONE]\n\n");
    jr_generate_items_deinit(&g);
}

/* One that ended without usage is told before the end; so is what a worker says that failed. */
static void test_ends_without_usage(void **state)
{
    (void)state;
    struct jr_generate_items g = {.worker_id = 7};
    assert_string_equal(
        item(&g, "{\"choices\":[{\"index\":0,\"text\":\"b\",\"finish_reason\":\"stop\"}]}"), "");
    const char *text = item(&g, "[DONE]");
    assert_non_null(strstr(text, "\"token_ids\":[]"));
    assert_non_null(strstr(text, "data: [DONE]\n\n"));
    text = item(&g, "{\"error\":{\"message\":\"no memory\"}}");
    assert_non_null(strstr(text, "event: error\ndata: {"));
    assert_non_null(strstr(text, "\"message\":\"no memory\""));
    assert_non_null(strstr(item(&g, "nonsense"), "event: error\n"));
    jr_generate_items_deinit(&g);
}

static int body_of(const char *request, struct jr_route_error *e)
{
    struct jr_mem mem;
    struct jr_tokens ids;
    struct jr_route_fields fields;
    struct jr_openai_request r;
    json_t *root = NULL;
    jr_mem_init(&mem);
    jr_tokens_init(&ids, &mem);
    jr_buf_clear(&out);
    int err = jr_route_body_load(jr_str_of(request, strlen(request)), &ids, &root, e);
    if (err == 0)
        err = jr_route_body_fields(root, &fields, e);
    if (err == 0)
        err = jr_generate_body(root, &fields, &ids, &out, &r, e);
    json_decref(root);
    jr_tokens_deinit(&ids);
    return err;
}

static void test_fields(void **state)
{
    (void)state;
    struct jr_route_error e = {.param = NULL};
    assert_int_equal(
        body_of("{\"token_ids\":[1,2],\"model\":\"m\",\"eos_token_ids\":[9],\"stop_conditions\":{"
                "\"max_tokens\":3,\"stop\":null,\"stop_token_ids_hidden\":[8]},\"sampling_"
                "options\":{\"top_k\":4},"
                "\"bootstrap_info\":{\"bootstrap_room\":77},\"prefill_result\":{\"disaggregated_"
                "params\":{"
                "\"kv_transfer_params\":{\"a\":1}}}}",
                &e),
        0);
    assert_string_equal(
        jr_buf_str(&out),
        "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
        "\"return_token_ids\":true,\"max_tokens\":3,\"top_k\":4,\"bootstrap_room\":77,"
        "\"stop_token_ids\":[8,9],\"kv_transfer_params\":{\"a\":1},\"prompt\":[1,2]}");
    assert_int_equal(
        body_of(
            "{\"stop_conditions\":{\"ignore_eos\":true},\"token_ids\":[1],\"eos_token_ids\":[9]}",
            &e),
        0);
    assert_null(strstr(jr_buf_str(&out), "stop_token_ids"));
    assert_null(strstr(jr_buf_str(&out), "\"model\""));
}

/* Whatever byte a body breaks off at, it is refused and nothing leaks. */
static void test_cut_bodies(void **state)
{
    (void)state;
    static const char whole[] = "{\"model\":\"m\",\"token_ids\":[1,2,3],\"router_config_override\":"
                                "{\"router_temperature\":0.5}}";
    struct jr_route_error e = {.param = NULL};
    char text[sizeof whole];
    for (size_t n = 0; n + 1 < sizeof whole; n++) {
        memcpy(text, whole, n);
        text[n] = '\0';
        assert_true(body_of(text, &e) < 0);
    }
    assert_int_equal(body_of(whole, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage_is_of_the_last_item),
        cmocka_unit_test(test_ends_without_usage),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_cut_bodies),
    };
    jr_buf_init(&out, 1 << 20);
    int rv = cmocka_run_group_tests(tests, NULL, NULL);
    jr_buf_deinit(&out);
    return rv;
}
