/* SPDX-License-Identifier: Apache-2.0 */
#include "app/router/router.h"

#include "app/frontend/command.h"
#include "app/router/ask.h"
#include "app/router/booking.h"
#include "app/router/generate.h"
#include "base/str.h"

#include <string.h>

/* --endpoint is three parts, as the option's check found. */
static int named_pool(const struct jr_config *cfg, struct jr_front_pools *ret, struct jr_errmsg *e)
{
    (void)e;
    const char *ns = jr_config_str(cfg, JR_CFG_ENDPOINT), *component = strchr(ns, '.') + 1;
    memcpy(ret->namespace_, ns, (size_t)(component - 1 - ns));
    memcpy(ret->components[0], component, strcspn(component, "."));
    ret->n_components = 1;
    return 0;
}

static const struct jr_front_path paths[] = {
    {"POST", "/generate", .local = jr_generate},
    {"POST", "/best_worker_id", .main = jr_ask_best_worker},
    {"POST", "/select", .main = jr_ask_select},
    {"POST", "/prefill_done", .main = jr_booking_prefill_done},
    {"POST", "/free", .main = jr_booking_free},
};

static const struct jr_front_command router = {
    .paths = paths,
    .n_paths = sizeof paths / sizeof *paths,
    .no_path = "there is no such path: this router answers POST /generate, "
               "/best_worker_id, /select, /prefill_done and /free",
    .pools = named_pool,
    .stop = jr_ask_stop,
};

int jr_router_main(const struct jr_config *cfg, struct jr_errmsg *e)
{
    return jr_front_run(&router, cfg, e);
}
