/* SPDX-License-Identifier: Apache-2.0 */
/* nats_options: the NATS options of the command line as a connection's configuration. Any thread. */
#ifndef JR_APP_NATS_OPTIONS_H
#define JR_APP_NATS_OPTIONS_H

#include "app/config.h"
#include "io/nats_conn.h"

/* Servers, credentials and TLS; the texts borrow from cfg. The caller adds loop and callbacks. */
void jr_nats_options(const struct jr_config *cfg, const char *name, struct jr_nats_config *ret);
/* Is text a list of HOST, HOST:PORT, nats://[USER[:PASSWORD]@]HOST[:PORT] or the same of tls://,
 * separated by commas? */
bool jr_nats_options_are_servers(const char *text);

#endif
