/* SPDX-License-Identifier: Apache-2.0 */
/* token_file: reads --admin-token-file, by the same rule for who asks for the token (the frontend)
 * and who sends it (ctl): the file is one token of 1 to JR_TOKEN_MAX visible ASCII characters, with
 * spaces and line ends behind it or not. Any thread. */
#ifndef JR_APP_TOKEN_FILE_H
#define JR_APP_TOKEN_FILE_H

#include "base/err.h"

#define JR_TOKEN_MAX 512

/* The token, with a NUL. On an error ret is as it was: JR_ECONFIG, with a message that names the
 * file and nothing of what is in it. */
JR_MUST_CHECK int jr_token_file_read(const char *path, char ret[JR_TOKEN_MAX + 1],
                                     struct jr_errmsg *e);

#endif
