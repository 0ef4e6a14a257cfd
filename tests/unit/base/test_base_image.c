/* SPDX-License-Identifier: Apache-2.0 */
#include "base/image.h"
#include "base/mem.h"
#include "jr_test.h"

static void owns_its_arrays(void **state)
{
    struct jr_image *image = jr_image_create();

    (void)state;
    assert_int_equal(image->n_entries, 0);
    image->ranks = jr_xalloc(sizeof *image->ranks);
    image->entries = jr_xalloc(sizeof *image->entries);
    jr_image_destroy(image); /* the leak checker is the judge */
    jr_image_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(owns_its_arrays)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
