/* SPDX-License-Identifier: Apache-2.0 */
/* https_options: the options of https:// URLs for an HTTP client. */
#ifndef JR_APP_HTTPS_OPTIONS_H
#define JR_APP_HTTPS_OPTIONS_H

#include "app/config.h"
#include "io/http_client.h"

/* Fills what ret says of TLS, and logs peers that fail; texts borrow from cfg. JR_ECONFIG when
 * --https-ca names a file that cannot be used. */
JR_MUST_CHECK int jr_https_options(const struct jr_config *cfg, struct jr_http_client_config *ret,
                                   struct jr_errmsg *e);

#endif
