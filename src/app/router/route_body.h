/* SPDX-License-Identifier: Apache-2.0 */
/* route_body: what the standalone router's requests have in common: token ids, and how they are to be
 * routed. The ids may be many, so they are read without a document tree; what is beside them is
 * little, and a tree.
 *
 *     [1, 2, 3]                                        ids alone
 *     {"token_ids": [1, 2, 3], "router_config_override": {…}, "routing": {…}, …}
 *
 * Pure; any thread. */
#ifndef JR_APP_ROUTER_ROUTE_BODY_H
#define JR_APP_ROUTER_ROUTE_BODY_H

#include "base/str.h"
#include "core/pool.h"
#include "wire/tokens.h"

#include <jansson.h>

#define JR_ROUTE_NAME_MAX 256 /* LoRA adapter, cache salt, request id */

struct jr_route_error {
    struct jr_errmsg msg;
    const char *param; /* static: the field at fault, or NULL */
};

struct jr_route_fields {
    char model[JR_MODEL_MAX]; /* "" any; so is Dynamo's "unknown" */
    char request_id[JR_ROUTE_NAME_MAX];
    char lora[JR_ROUTE_NAME_MAX], cache_salt[JR_ROUTE_NAME_MAX];
    bool has_pin, has_pin_rank;
    uint64_t pin;
    uint32_t pin_rank;
    uint32_t expected_output_tokens, strict_priority;
    double priority_jump_s;
    struct jr_route_override override;
};

/* The ids into tokens; the rest, without them, is *ret (owned; an empty object when the body is the
 * list alone). JR_EPROTO, JR_EINVAL with words for the client, JR_ELIMIT, JR_ENOMEM. */
JR_MUST_CHECK int jr_route_body_load(struct jr_str body, struct jr_tokens *tokens, json_t **ret,
                                     struct jr_route_error *e);
/* How it is to be routed. A field that is null is as if it were not there. JR_EINVAL. */
JR_MUST_CHECK int jr_route_body_fields(const json_t *root, struct jr_route_fields *ret,
                                       struct jr_route_error *e);

#endif
