/* SPDX-License-Identifier: Apache-2.0 */
#include "base/image.h"
#include "base/mem.h"

struct jr_image *jr_image_create(void)
{
    return jr_xalloc(sizeof(struct jr_image));
}

void jr_image_destroy(struct jr_image *image)
{
    if (!image)
        return;
    jr_xfree(image->ranks);
    jr_xfree(image->entries);
    jr_xfree(image);
}
