/* SPDX-License-Identifier: Apache-2.0 */
/* certificate: what --tls-cert-path and --tls-key-path name, given to the server at the start and
 * again on SIGHUP. Loop thread only. */
#ifndef JR_APP_FRONTEND_CERTIFICATE_H
#define JR_APP_FRONTEND_CERTIFICATE_H

#include "app/frontend/frontend_internal.h"

bool jr_certificate_wanted(const struct jr_frontend *f);
/* Does nothing without the options. JR_ECONFIG, with the name of the option in e. */
JR_MUST_CHECK int jr_certificate_load(struct jr_frontend *f, struct jr_errmsg *e);
/* Reads the files again, for the connections from now on. A pair that is no good changes nothing
 * but a counter. */
void jr_certificate_reload(struct jr_frontend *f);

#endif
