/* SPDX-License-Identifier: Apache-2.0 */
#include "jr_test.h"
#include "jr_test_nats.h"
#include <unistd.h>

static void starts_stops_and_restarts(void **state)
{
    struct jr_test_nats n;
    char *dir;
    uint16_t port;

    (void)state;
    jr_test_nats_start(&n, NULL);
    port = n.port;
    dir = jr_xstrdup(n.dir);
    assert_true(jr_test_port_open(port));
    jr_test_nats_stop(&n);
    assert_false(jr_test_port_open(port));
    jr_test_nats_restart(&n);
    assert_int_equal(n.port, port);
    assert_true(jr_test_port_open(port));
    jr_test_nats_pause(&n);
    jr_test_nats_resume(&n);
    jr_test_nats_end(&n);
    assert_false(jr_test_port_open(port));
    assert_int_not_equal(access(dir, F_OK), 0);
    jr_test_nats_end(&n);
    jr_xfree(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(starts_stops_and_restarts)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
