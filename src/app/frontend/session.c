/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/session.h"

#include "base/limit.h"

#include "core/sessions.h"

int jr_session_read(const struct jr_config *cfg, const struct jr_http_request *req, uint64_t *ret)
{
    *ret = 0;
    if (!jr_config_is_set(cfg, JR_CFG_ROUTER_SESSION_AFFINITY_TTL_SECS))
        return 0;
    struct jr_str name = jr_http_request_header(req, "x-dynamo-session-id");
    if (!name.n)
        name = jr_http_request_header(req, "x-session-id");
    if (name.n > JR_SESSION_NAME_MAX)
        return jr_limit(JR_LIMIT_SESSION_NAME);
    if (name.n)
        *ret = jr_session_key(name);
    return 0;
}
