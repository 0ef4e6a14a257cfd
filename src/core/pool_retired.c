/* SPDX-License-Identifier: Apache-2.0 */
/* States and images that a pool is done with. Giving hundreds of megabytes back to the system takes
 * tens of milliseconds, so it is done in slices. */
#include "core/pool_internal.h"

void jr_pool_retire_state(struct jr_pool *p, struct jr_state *s)
{
    if (!s)
        return;
    jr_state_empty(s);
    s->next_retired = p->retired_states;
    p->retired_states = s;
}

void jr_pool_retire_image(struct jr_pool *p, struct jr_image *image)
{
    if (!image)
        return;
    image->next = p->retired_images;
    p->retired_images = image;
}

bool jr_pool_has_retired(const struct jr_pool *p)
{
    return p->retired_states || p->retired_images;
}

void jr_pool_retired_slice(struct jr_pool *p, uint32_t max)
{
    struct jr_state *s = p->retired_states;
    struct jr_image *image = p->retired_images;

    if (image) {
        p->retired_images = image->next;
        if (!jr_image_destroy_some(image))
            p->retired_images = image;
    } else if (s && jr_state_has_work(s)) {
        jr_state_work(s, max);
    } else if (s) {
        p->retired_states = s->next_retired;
        jr_state_destroy(s);
    }
}

void jr_pool_retired_free(struct jr_pool *p)
{
    while (jr_pool_has_retired(p))
        jr_pool_retired_slice(p, UINT32_MAX);
}
