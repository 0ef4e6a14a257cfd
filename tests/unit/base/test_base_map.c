/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"
#include "base/rng.h"
#include "jr_test.h"
#include <string.h>

#define KEYS 700

/* The naive map: present and value of key i, where the real key is keys[i]. */
struct model {
    uint64_t keys[KEYS];
    uint64_t value[KEYS];
    bool present[KEYS];
    uint64_t n;
};

static void compare(const struct jr_map *m, const struct model *model)
{
    uint64_t pos = 0, key, value, seen = 0;

    assert_int_equal(m->n, model->n);
    for (int i = 0; i < KEYS; i++) {
        bool have = jr_map_get(m, model->keys[i], &value);
        assert_int_equal(have, model->present[i]);
        if (have)
            assert_int_equal(value, model->value[i]);
    }
    while (jr_map_next(m, &pos, &key, &value)) {
        uint64_t again;
        assert_true(jr_map_get(m, key, &again) && again == value);
        seen++;
    }
    assert_int_equal(seen, model->n);
}

static void one_step(struct jr_map *m, struct model *model, struct jr_rng *r, unsigned put_percent)
{
    uint32_t i = jr_rng_below(r, KEYS);
    uint64_t old = 0;

    if (jr_rng_below(r, 100) < put_percent) {
        uint64_t value = jr_rng_u64(r);
        assert_int_equal(jr_map_put(m, model->keys[i], value), 0);
        model->n += !model->present[i];
        model->present[i] = true;
        model->value[i] = value;
        return;
    }
    assert_int_equal(jr_map_del(m, model->keys[i], &old), model->present[i]);
    if (model->present[i]) {
        assert_int_equal(old, model->value[i]);
        model->n--;
    }
    model->present[i] = false;
}

/* The value x for which jr_mix64(x) is y: keys with a chosen home slot. */
static uint64_t unmix64(uint64_t y)
{
    y ^= y >> 31 ^ y >> 62;
    y *= UINT64_C(0x319642b2d24d8ec3);
    y ^= y >> 27 ^ y >> 54;
    y *= UINT64_C(0x96de1b173f119089);
    return y ^ y >> 30 ^ y >> 60;
}

static void run_model(bool colliding)
{
    static struct model model;
    struct jr_mem mem;
    struct jr_map m;
    struct jr_rng r;

    memset(&model, 0, sizeof model);
    jr_rng_init(&r, jr_test_seed(), 3);
    for (uint64_t i = 0; i < KEYS; i++) /* colliding: 8 homes at the wrap-around of the table */
        model.keys[i] = colliding ? unmix64((i << 32) | ((0 - (i % 8)) & 0xffffff)) : i * 3;
    jr_mem_init(&mem);
    jr_map_init(&m, &mem);
    for (int round = 0; round < 12; round++) {
        for (int step = 0; step < 400; step++)
            one_step(&m, &model, &r, round % 3 == 2 ? 20 : 70);
        compare(&m, &model);
    }
    jr_map_clear(&m);
    memset(model.present, 0, sizeof model.present);
    model.n = 0;
    compare(&m, &model);
    jr_map_deinit(&m);
    jr_mem_deinit(&mem);
}

static void behaves_like_the_model(void **state)
{
    (void)state;
    run_model(false);
}

static void behaves_like_the_model_when_all_collide(void **state)
{
    (void)state;
    assert_int_equal(jr_mix64(unmix64(0x123456789abcdef)), 0x123456789abcdef);
    run_model(true);
}

static int fill(struct jr_mem *mem, void *ctx)
{
    struct jr_map m;
    int rv = 0;
    uint64_t done = 0, value;

    (void)ctx;
    jr_map_init(&m, mem);
    for (uint64_t i = 0; i < 100 && rv == 0; i++) {
        rv = jr_map_put(&m, i, i);
        done += rv == 0;
    }
    /* A failed growth leaves everything in place. */
    assert_int_equal(m.n, done);
    for (uint64_t i = 0; i < done; i++)
        assert_true(jr_map_get(&m, i, &value) && value == i);
    jr_map_deinit(&m);
    return rv;
}

static void survives_running_out_of_memory(void **state)
{
    (void)state;
    assert_true(jr_test_oom_sweep(fill, NULL) >= 4);
}

static void empty_map(void **state)
{
    struct jr_mem mem;
    struct jr_map m;
    uint64_t pos = 0;

    (void)state;
    jr_mem_init(&mem);
    jr_map_init(&m, &mem);
    assert_false(jr_map_get(&m, 0, NULL));
    assert_false(jr_map_del(&m, 0, NULL));
    assert_false(jr_map_next(&m, &pos, NULL, NULL));
    jr_map_clear(&m);
    jr_map_deinit(&m);
    jr_map_deinit(NULL);
    jr_mem_deinit(&mem);
}

static void mix64_vectors(void **state)
{
    (void)state;
    /* splitmix64's first output for seed 0 is mix64 of its increment (Vigna's reference). */
    assert_true(jr_mix64(UINT64_C(0x9e3779b97f4a7c15)) == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(jr_mix64(0) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_like_the_model),
        cmocka_unit_test(behaves_like_the_model_when_all_collide),
        cmocka_unit_test(survives_running_out_of_memory),
        cmocka_unit_test(empty_map),
        cmocka_unit_test(mix64_vectors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
