/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_view: JSON of a replica as text for people. Pure: no sockets, no output. */
#ifndef JR_APP_CTL_CTL_VIEW_H
#define JR_APP_CTL_CTL_VIEW_H

#include "base/buf.h"

/* what: state, workers, replicas, digest, or with json snapshot. body is the answer of GET /state. JR_EPROTO with words
 * in e when it is not what /state answers; b may then hold a part. */
JR_MUST_CHECK int jr_ctl_view_state(const char *what, bool json, const char *body, size_t n,
                                    struct jr_buf *b, struct jr_errmsg *e);
/* The answer of an action: its message, or "ok". */
void jr_ctl_view_action(bool json, const char *body, size_t n, struct jr_buf *b);
/* One line of /admin/tail: "key=value …" of its top level fields. */
void jr_ctl_view_line(bool json, const char *line, size_t n, struct jr_buf *b);
/* What an error answer says: its message, or the first line of its text. Always terminated. */
void jr_ctl_view_error(const char *body, size_t n, char *ret, size_t cap);

#endif
