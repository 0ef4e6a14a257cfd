/* SPDX-License-Identifier: Apache-2.0 */
/* admin_token: the bearer token of administration, which --admin-token-file holds. A file that was
 * replaced counts from the next request on, so that a Secret can be renewed under a process that
 * runs. Loop thread only; a look at the file is a stat. */
#ifndef JR_APP_FRONTEND_ADMIN_TOKEN_H
#define JR_APP_FRONTEND_ADMIN_TOKEN_H

#include "base/err.h"
#include "base/str.h"

struct jr_admin_token;

/* Copies path; *ret is owned by the caller. JR_ECONFIG: no such file, or no token in it. */
JR_MUST_CHECK int jr_admin_token_create(const char *path, struct jr_admin_token **ret,
                                        struct jr_errmsg *e);
void jr_admin_token_destroy(struct jr_admin_token *t); /* NULL is fine */

/* Is that the value of an Authorization header with the token, compared in constant time? The file
 * is read again when it is another than before; one that is no good changes nothing. */
bool jr_admin_token_matches(struct jr_admin_token *t, struct jr_str header);

#endif
