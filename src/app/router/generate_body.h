/* SPDX-License-Identifier: Apache-2.0 */
/* generate_body: a request of Dynamo's workers (token ids, stop_conditions, sampling_options, …) as the
 * body of a completion, for workers that speak OpenAI's API as vLLM does. Pure; any thread. */
#ifndef JR_APP_ROUTER_GENERATE_BODY_H
#define JR_APP_ROUTER_GENERATE_BODY_H

#include "app/router/route_body.h"
#include "wire/openai.h"

/* Where the body names its model, which is its first member; one that none was given for has none. */
#define JR_GENERATE_MODEL "\"model\":"

/* Appends the body, always of a stream that names its ids, and says in ret what the proxy must know of
 * it; ret's texts borrow from root and fields. What the workers' API has no word for is refused:
 * JR_EINVAL with words for the client. Check out->err. */
JR_MUST_CHECK int jr_generate_body(const json_t *root, const struct jr_route_fields *fields,
                                   const struct jr_tokens *ids, struct jr_buf *out,
                                   struct jr_openai_request *ret, struct jr_route_error *e);

#endif
