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

/* Numbers of each kind to where each kind begins. */
static void sum_up(uint64_t *count, uint64_t kinds)
{
    uint64_t sum = 0;

    for (uint64_t k = 0; k < kinds; k++) {
        uint64_t c = count[k];
        count[k] = sum;
        sum += c;
    }
}

/* Each to where its kind, place >> shift, is at. */
static void scatter(const struct jr_image_entry *from, struct jr_image_entry *to, uint64_t n,
                    uint32_t base, uint32_t shift, uint64_t *at)
{
    for (uint64_t i = 0; i < n; i++)
        to[at[(from[i].place - base) >> shift]++] = from[i];
}

/* Counting sort of the few entries of one bin, whose places are from base on and below base + kinds. */
static void sort_bin(const struct jr_image_entry *from, struct jr_image_entry *to, uint64_t n,
                     uint32_t base, uint64_t *count, uint64_t kinds)
{
    memset(count, 0, kinds * sizeof *count);
    for (uint64_t i = 0; i < n; i++)
        count[from[i].place - base]++;
    sum_up(count, kinds);
    scatter(from, to, n, base, 0, count);
}

/* The index says of each place whether it is the child of the one before; that counts when that one
 * has an entry. The places have served then. */
static void set_flags(struct jr_image_entry *entries, uint64_t n, uint64_t *before)
{
    for (uint64_t i = 0; i < n; i++) {
        uint32_t place = entries[i].place;
        bool follows = place == *before + 1 && (entries[i].flags & JR_IMAGE_FOLLOWS);
        entries[i].flags = place == *before ? JR_IMAGE_SAME : follows ? JR_IMAGE_CHILD : 0;
        entries[i].place = 0;
        *before = place;
    }
}

/* Places in the order of the rows; and how many entries each bin has. */
static void place_entries(struct jr_image *image, uint32_t shift, uint64_t *count)
{
    uint32_t *order = order_rows(image->links, image->n_links);

    for (uint64_t i = 0; i < image->n_entries; i++) {
        struct jr_image_entry *e = &image->entries[i];
        e->place = order[e->place / ROW] * ROW + e->place % ROW;
        count[e->place >> shift]++;
    }
    jr_xfree(order);
}

/* By place, in two passes over memory: into bins, and back, each bin sorted and marked while it is in
 * the cache. */
void jr_image_arrange(struct jr_image *image)
{
    uint64_t *count, end[BINS_MAX] = {0}, from = 0, before = UINT64_MAX - 1;
    struct jr_image_entry *bins;
    uint32_t shift = 0;

    if (!image->links)
        return;
    while (image->n_links * ROW >> shift >= BINS_MAX)
        shift++;
    place_entries(image, shift, end);
    sum_up(end, BINS_MAX);
    bins = jr_xalloc((image->n_entries + 1) * sizeof *bins);
    scatter(image->entries, bins, image->n_entries, 0, shift, end);
    count = jr_xalloc((UINT64_C(1) << shift) * sizeof *count);
    for (uint32_t b = 0; b < BINS_MAX; b++) {
        uint64_t n = end[b] - from;
        if (n > 0)
            sort_bin(bins + from, image->entries + from, n, b << shift, count,
                     UINT64_C(1) << shift);
        set_flags(image->entries + from, n, &before);
        from = end[b];
    }
    jr_xfree(count);
    jr_xfree(bins);
    jr_xfree(image->links);
    image->links = NULL;
    image->n_links = 0;
}
