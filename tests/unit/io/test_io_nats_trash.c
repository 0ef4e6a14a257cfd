/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that gather before they are freed; that all are is for the leak checker to say. */
#include "io/nats_trash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static natsMsg *message(size_t n)
{
    static const char zeros[JR_NATS_TRASH_BYTES];
    natsMsg *m = NULL;

    assert_int_equal(natsMsg_Create(&m, "a", NULL, zeros, (int)n), NATS_OK);
    return m;
}

static void test_gathers_up_to_its_bounds(void **state)
{
    struct jr_nats_trash t;

    (void)state;
    jr_nats_trash_init(&t);
    jr_nats_trash_put(&t, NULL);
    assert_int_equal(t.n, 0);
    for (uint32_t i = 1; i < JR_NATS_TRASH_MSGS; i++) {
        jr_nats_trash_put(&t, message(8));
        assert_int_equal(t.n, i);
        assert_int_equal(t.bytes, 8 * i);
    }
    jr_nats_trash_put(&t, message(8));
    assert_int_equal(t.n, 0);
    assert_int_equal(t.bytes, 0);
    jr_nats_trash_put(&t, message(1000));
    jr_nats_trash_put(&t, message(JR_NATS_TRASH_BYTES)); /* what is large does not stay */
    assert_int_equal(t.n, 0);
    assert_int_equal(t.bytes, 0);
    jr_nats_trash_put(&t, message(8));
    jr_nats_trash_deinit(&t);
}

static void *put_many(void *arg)
{
    for (int i = 0; i < 1000; i++)
        jr_nats_trash_put(arg, message(16));
    return NULL;
}

static void test_any_thread(void **state)
{
    struct jr_nats_trash t;
    pthread_t threads[4];

    (void)state;
    jr_nats_trash_init(&t);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_many, &t), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(t.n, 4000 % JR_NATS_TRASH_MSGS);
    assert_int_equal(t.bytes, 16 * t.n);
    jr_nats_trash_deinit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gathers_up_to_its_bounds),
        cmocka_unit_test(test_any_thread),
    };

    if (nats_Open(-1) != NATS_OK) /* starts the thread that frees */
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nats_Close();
    return failed;
}
