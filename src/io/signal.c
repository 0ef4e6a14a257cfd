/* SPDX-License-Identifier: Apache-2.0 */
#include "io/signal.h"

#include "base/mem.h"

#include <signal.h>

#define N_SIGNALS 3

static const int signums[N_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};

struct jr_signals {
    uv_signal_t handles[N_SIGNALS];
    unsigned open; /* handles not closed yet */
    void (*fn)(void *ctx, int signum);
    void *ctx;
};

static void on_signal(uv_signal_t *handle, int signum)
{
    struct jr_signals *s = handle->data;

    s->fn(s->ctx, signum);
}

static void maybe_free(uv_handle_t *handle)
{
    struct jr_signals *s = handle->data;

    if (--s->open == 0)
        jr_xfree(s);
}

int jr_signals_create(struct jr_loop *loop, void (*fn)(void *ctx, int signum), void *ctx,
                      struct jr_signals **ret)
{
    struct jr_signals *s = jr_xalloc(sizeof *s);

    s->fn = fn;
    s->ctx = ctx;
    for (unsigned i = 0; i < N_SIGNALS; i++) {
        int rv = uv_signal_init(jr_loop_uv(loop), &s->handles[i]);
        if (rv == 0) {
            s->handles[i].data = s;
            s->open++;
            rv = uv_signal_start(&s->handles[i], on_signal, signums[i]);
        }
        if (rv != 0) {
            if (s->open == 0)
                jr_xfree(s);
            else
                jr_signals_destroy(s);
            return JR_EIO;
        }
    }
    *ret = s;
    return 0;
}

void jr_signals_destroy(struct jr_signals *s)
{
    if (s == NULL)
        return;
    const unsigned n = s->open;
    for (unsigned i = 0; i < n; i++)
        uv_close((uv_handle_t *)&s->handles[i], maybe_free);
}
