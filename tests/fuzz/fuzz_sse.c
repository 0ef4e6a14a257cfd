/* SPDX-License-Identifier: Apache-2.0 */
/* The first byte is the size of the pieces; events must not depend on it. */
#include <stdlib.h>
#include <string.h>
#include "wire/openai_reply.h"
#include "wire/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct sums {
    struct jr_openai_progress pr;
    uint64_t events, bytes;
};

static int take(void *ctx, const struct jr_sse_event *ev)
{
    struct sums *s = ctx;
    (void)jr_openai_progress_event(&s->pr, ev);
    s->events++;
    s->bytes += ev->data.n + ev->event.n + ev->comment.n;
    return 0;
}

static int feed(const uint8_t *p, size_t n, size_t step, struct sums *s)
{
    struct jr_sse sse;
    int rv = 0;
    memset(s, 0, sizeof *s);
    jr_sse_init(&sse, 1 << 20);
    for (size_t at = 0; at < n && rv == 0; at += step) {
        size_t k = step < n - at ? step : n - at;
        uint8_t *piece = malloc(k);
        if (piece != NULL) {
            memcpy(piece, p + at, k);
            rv = jr_sse_feed(&sse, piece, k, take, s);
            free(piece);
        }
    }
    jr_sse_deinit(&sse);
    return rv;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct sums whole, cut;
    if (n < 2 || n > 1 << 16) {
        return 0;
    }
    int a = feed(p + 1, n - 1, n - 1, &whole);
    int b = feed(p + 1, n - 1, 1u + p[0] % 64, &cut);
    if (a != b || memcmp(&whole, &cut, sizeof cut) != 0) {
        abort();
    }
    return 0;
}
