/* SPDX-License-Identifier: Apache-2.0 */
#include "base/image.h"
#include "base/assert.h"
#include "base/mem.h"
#include <stdbool.h>
#include <string.h>

#define BINS_MAX 1024            /* of the first pass: as many streams as a core writes well */
#define PIECE    UINT64_C(43690) /* entries of a megabyte */
#define ROW      16              /* places in a row that one link is for */

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
    jr_xfree(image->links);
    jr_xfree(image);
}

bool jr_image_destroy_some(struct jr_image *image)
{
    if (image->n_entries > PIECE) {
        /* In place: the C library gives the end of so large a block back to the system. */
        image->n_entries -= PIECE;
        image->entries =
            jr_xrealloc(image->entries, (size_t)image->n_entries * sizeof *image->entries);
        return false;
    }
    jr_image_destroy(image);
    return true;
}

/* Where each row comes in the order: the rows that follow each other have numbers in a row. */
static uint32_t *order_rows(const uint32_t *links, uint64_t n)
{
    uint32_t *next = jr_xalloc((n + 1) * sizeof *next), *order = next;
    uint32_t at = 0;

    for (uint64_t i = 0; i < n; i++) {
        if (links[i] > 0)
            next[links[i] - 1] = (uint32_t)i + 1;
    }
    for (uint64_t i = 0; i < n; i++) {
        if (links[i] > 0)
            continue;
        for (uint64_t row = i + 1; row > 0;) {
            uint64_t after = next[row - 1];
            order[row - 1] = at++;
            row = after;
        }
    }
    JR_ASSERT(at == n); /* no row follows itself */
    return order;
}

/* Counting sort by place >> shift, of n entries whose places are below `end`. */
static void sort_pass(const struct jr_image_entry *from, struct jr_image_entry *to, uint64_t n,
                      uint32_t base, uint32_t shift, uint64_t *count, uint64_t counts)
{
    uint64_t sum = 0;

    memset(count, 0, counts * sizeof *count);
    for (uint64_t i = 0; i < n; i++)
        count[(from[i].place - base) >> shift]++;
    for (uint64_t b = 0; b < counts; b++) {
        uint64_t c = count[b];
        count[b] = sum;
        sum += c;
    }
    for (uint64_t i = 0; i < n; i++)
        to[count[(from[i].place - base) >> shift]++] = from[i];
}

/* By place, in two passes: into bins, and within each. Leaves them where they were. */
static void sort_entries(struct jr_image_entry *entries, uint64_t n, uint64_t places)
{
    struct jr_image_entry *bins = jr_xalloc((n + 1) * sizeof *bins);
    uint64_t *count, *end, from = 0, wide;
    uint32_t shift = 0;

    while (places >> shift >= BINS_MAX)
        shift++;
    wide = (UINT64_C(1) << shift) > BINS_MAX ? UINT64_C(1) << shift : BINS_MAX;
    count = jr_xalloc((wide + BINS_MAX) * sizeof *count);
    end = count + wide;
    sort_pass(entries, bins, n, 0, shift, end, BINS_MAX);
    for (uint32_t b = 0; b < BINS_MAX; b++) {
        sort_pass(bins + from, entries + from, end[b] - from, b << shift, 0, count,
                  UINT64_C(1) << shift);
        from = end[b];
    }
    jr_xfree(count);
    jr_xfree(bins);
}

/* The index says of each place whether it is the child of the one before; that counts when that one
 * has an entry. */
static void set_flags(struct jr_image_entry *entries, uint64_t n)
{
    uint64_t before = UINT64_MAX - 1;

    for (uint64_t i = 0; i < n; i++) {
        uint32_t place = entries[i].place;
        if (place == before)
            entries[i].flags = JR_IMAGE_SAME;
        else
            entries[i].flags =
                place == before + 1 && (entries[i].flags & JR_IMAGE_FOLLOWS) ? JR_IMAGE_CHILD : 0;
        before = place;
    }
    for (uint64_t i = 0; i < n; i++)
        entries[i].place = 0;
}

void jr_image_arrange(struct jr_image *image)
{
    uint32_t *order;

    if (!image->links)
        return;
    order = order_rows(image->links, image->n_links);
    for (uint64_t i = 0; i < image->n_entries; i++) {
        struct jr_image_entry *e = &image->entries[i];
        e->place = order[e->place / ROW] * ROW + e->place % ROW;
    }
    sort_entries(image->entries, image->n_entries, image->n_links * ROW);
    set_flags(image->entries, image->n_entries);
    jr_xfree(order);
    jr_xfree(image->links);
    image->links = NULL;
    image->n_links = 0;
}
