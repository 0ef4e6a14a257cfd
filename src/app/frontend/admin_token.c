/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/admin_token.h"

#include "app/token_file.h"
#include "base/log.h"
#include "base/mem.h"

#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

struct jr_admin_token {
    char *path;
    char text[JR_TOKEN_MAX + 1];
    struct stat seen; /* the file that was read last, good or not */
};

static bool is_other(const struct stat *a, const struct stat *b)
{
    return a->st_ino != b->st_ino || a->st_dev != b->st_dev || a->st_size != b->st_size ||
           a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

static void look(struct jr_admin_token *t)
{
    struct jr_errmsg e = {""};
    struct stat now;

    if (stat(t->path, &now) != 0 || !is_other(&now, &t->seen))
        return;
    t->seen = now;
    if (jr_token_file_read(t->path, t->text, &e) == 0)
        jr_log(JR_LOG_INFO, "admin.token", "words=\"read again\" file=%s", t->path);
    else
        jr_log(JR_LOG_WARN, "admin.token", "words=\"%s\" hint=\"%s\"", e.text,
               "the one from before stays");
}

int jr_admin_token_create(const char *path, struct jr_admin_token **ret, struct jr_errmsg *e)
{
    struct jr_admin_token *t = jr_xalloc(sizeof *t);

    t->path = jr_xstrdup(path);
    memset(&t->seen, 0, sizeof t->seen);
    (void)stat(path, &t->seen); /* before it is read: what comes between is seen as new */
    const int err = jr_token_file_read(path, t->text, e);
    if (err < 0) {
        jr_admin_token_destroy(t);
        return err;
    }
    *ret = t;
    return 0;
}

void jr_admin_token_destroy(struct jr_admin_token *t)
{
    if (t == NULL)
        return;
    sodium_memzero(t->text, sizeof t->text);
    jr_xfree(t->path);
    jr_xfree(t);
}

bool jr_admin_token_matches(struct jr_admin_token *t, struct jr_str header)
{
    static const char scheme[] = "Bearer ";
    const size_t skip = sizeof scheme - 1;

    look(t);
    const size_t n = strlen(t->text);
    return header.n == skip + n && strncmp(header.p, scheme, skip) == 0 &&
           sodium_memcmp(header.p + skip, t->text, n) == 0;
}
