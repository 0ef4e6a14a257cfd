/* SPDX-License-Identifier: Apache-2.0 */
/* command: what a command that is served by the frontend's machinery (pools, drivers, drain, health,
 * metrics, administration) has of its own: which pools it routes to, and which paths it answers beside
 * the common ones. Immutable; any thread. */
#ifndef JR_APP_FRONTEND_COMMAND_H
#define JR_APP_FRONTEND_COMMAND_H

#include "app/config.h"

struct jr_frontend;
struct jr_front_loop;
struct jr_http_request;

/* One of the two functions is set; it takes the request. */
struct jr_front_path {
    const char *method, *path;
    void (*main)(struct jr_frontend *f, struct jr_http_request *req);    /* on the main loop */
    void (*local)(struct jr_front_loop *l, struct jr_http_request *req); /* on the request's own */
    bool admin; /* of main: for administrators only */
};

/* The pools that the options name. */
struct jr_front_pools {
    char namespace_[JR_NAME_MAX];
    char components[JR_POOLS_MAX][JR_NAME_MAX];
    uint32_t n_components;
};

struct jr_front_command {
    const struct jr_front_path *paths;
    uint32_t n_paths;
    bool openai;         /* also /v1/models/NAME, and any other path below /v1 by load alone */
    const char *no_path; /* what is said of paths that are none */
    /* ret is zeroed. JR_ECONFIG with the words for the user. */
    int (*pools)(const struct jr_config *cfg, struct jr_front_pools *ret, struct jr_errmsg *e);
    void (*stop)(struct jr_frontend *f); /* ends what its paths have under way; may be NULL */
};

/* Runs until SIGTERM or SIGINT and the drain that follows; a second signal ends at once. */
int jr_front_run(const struct jr_front_command *command, const struct jr_config *cfg,
                 struct jr_errmsg *e);

#endif
