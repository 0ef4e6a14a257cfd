/* SPDX-License-Identifier: Apache-2.0 */
/* The warmer's thread under an index: what is answered does not depend on it. */
#include "base/map.h"
#include "base/mem.h"
#include "core/index.h"
#include "io/warmer.h"
#include "jr_test.h"

#define MEMBERS 3
#define RUNS    600
#define RUN     128 /* blocks */

static struct jr_index *fill(struct jr_mem *mem)
{
    struct jr_kv_block blocks[RUN];
    struct jr_index *idx;

    assert_int_equal(0, jr_index_create(mem, 0, &idx));
    for (uint32_t m = 0; m < MEMBERS; m++)
        assert_int_equal(0, jr_index_add_member(idx, m, m + 1, 0));
    for (uint64_t run = 0; run < RUNS; run++) {
        for (uint64_t i = 0; i < RUN; i++)
            blocks[i] = (struct jr_kv_block){jr_mix64(run * RUN + i), jr_mix64(~(run * RUN + i))};
        assert_int_equal(0, jr_index_store(idx, (uint32_t)(run % MEMBERS), false, 0, blocks, RUN));
    }
    return idx;
}

static void end(struct jr_index *idx)
{
    jr_index_check(idx);
    jr_index_clear(idx, 0);
    while (jr_index_work(idx, 1000))
        ;
    jr_index_check(idx);
    jr_index_reset(idx);
    jr_index_destroy(idx);
}

static void an_index_is_the_same_with_a_warmer(void **state)
{
    struct jr_mem plain, warm;
    struct jr_warmer *w;
    struct jr_index *a, *b;

    (void)state;
    assert_int_equal(0, jr_warmer_create(&w));
    struct jr_pages_warmer pages = jr_warmer_pages(w);
    jr_mem_init(&plain);
    jr_mem_init(&warm);
    jr_mem_warm(&warm, &pages, 0);
    a = fill(&plain);
    b = fill(&warm);
    assert_true(jr_index_digest(a) == jr_index_digest(b));
    assert_int_equal(jr_index_entries(a), jr_index_entries(b));
    end(a);
    end(b);
    jr_mem_deinit(&plain);
    jr_mem_deinit(&warm);
    jr_warmer_destroy(w);
}

static void idle(void **state)
{
    struct jr_warmer *w;

    (void)state;
    assert_int_equal(0, jr_warmer_create(&w));
    jr_warmer_destroy(w);
    jr_warmer_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_is_the_same_with_a_warmer),
        cmocka_unit_test(idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
