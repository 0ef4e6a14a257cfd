/* SPDX-License-Identifier: Apache-2.0 */
#include "app/token_file.h"

#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define READ_MAX (JR_TOKEN_MAX + 64) /* what is behind the token, too */

/* 0 or an errno; *ret_n of cap bytes mean that there may be more. */
static int read_bytes(const char *path, char *p, size_t cap, size_t *ret_n)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return errno;
    *ret_n = fread(p, 1, cap, f);
    const int why = ferror(f) ? errno : 0;
    (void)fclose(f);
    return why;
}

/* The length of the token in a file of n bytes; 0: it is none. */
static size_t token_len(const char *p, size_t n)
{
    while (n > 0 && strchr(" \t\r\n", p[n - 1]) && p[n - 1])
        n--;
    for (size_t i = 0; i < n; i++)
        if (p[i] <= ' ' || p[i] > '~')
            return 0;
    return n > JR_TOKEN_MAX ? 0 : n;
}

int jr_token_file_read(const char *path, char ret[JR_TOKEN_MAX + 1], struct jr_errmsg *e)
{
    char text[READ_MAX];
    size_t n = 0;
    const int why = read_bytes(path, text, sizeof text, &n);
    if (why != 0)
        return jr_errmsg_set(e, JR_ECONFIG, "--admin-token-file: cannot read %.120s: %s", path,
                             strerror(why));

    const size_t len = n < sizeof text ? token_len(text, n) : 0;
    if (len > 0) {
        memcpy(ret, text, len);
        ret[len] = '\0';
    }
    sodium_memzero(text, sizeof text);
    return len > 0 ? 0
                   : jr_errmsg_set(e, JR_ECONFIG,
                                   "--admin-token-file: %.120s must hold one token of 1 to %d "
                                   "visible ASCII characters and nothing else",
                                   path, JR_TOKEN_MAX);
}
