/* SPDX-License-Identifier: Apache-2.0 */
/* session: what a request's head says of the session it belongs to. Loop thread. */
#ifndef JR_APP_FRONTEND_SESSION_H
#define JR_APP_FRONTEND_SESSION_H

#include "app/config.h"
#include "io/http_server.h"

#define JR_SESSION_TOO_LONG "X-Dynamo-Session-ID is longer than 256 bytes"

/* *ret: for jr_route; 0: it names none, or --router-session-affinity-ttl-secs is not set.
 * JR_ELIMIT: the name is too long. */
JR_MUST_CHECK int jr_session_read(const struct jr_config *cfg, const struct jr_http_request *req,
                                  uint64_t *ret);

#endif
