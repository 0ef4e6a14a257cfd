/* SPDX-License-Identifier: Apache-2.0 */
#include "app/config.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/str.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct value {
    bool set;
    enum jr_cfg_source source;
    bool b;
    uint64_t u; /* numbers, and the place of an enum's choice */
    double f;
    char *s;  /* owned; texts */
    char **v; /* owned; lists */
    uint32_t n;
};

struct jr_config {
    enum jr_cmd command;
    struct value values[JR_CFG_COUNT];
    const char **args; /* owned, borrows the words from args_text */
    uint32_t n_args;
};

static const struct jr_cfg_row rows[JR_CFG_COUNT] = {
#define X(key_, type_, flag_, env_, def_, commands_, group_, metavar_, ...)                        \
    [JR_CFG_##key_] = {.key = #key_,                                                               \
                       .type = JR_CFG_TYPE_##type_,                                                \
                       .flag = flag_,                                                              \
                       .env = env_,                                                                \
                       .def = def_,                                                                \
                       .commands = commands_,                                                      \
                       .group = JR_CFG_GROUP_##group_,                                             \
                       .metavar = metavar_,                                                        \
                       .help = __VA_ARGS__},
    JR_CFG_TABLE(X)
#undef X
};

const struct jr_cfg_row *jr_config_row(enum jr_cfg_key key)
{
    JR_ASSERT((unsigned)key < JR_CFG_COUNT);
    return &rows[key];
}

const char *jr_config_group_title(enum jr_cfg_group group)
{
    static const char *const titles[] = {
#define X(name, title) [JR_CFG_GROUP_##name] = title,
        JR_CFG_GROUP_TABLE(X)
#undef X
    };
    return titles[group];
}

const char *jr_config_type_name(enum jr_cfg_type type)
{
    static const char *const names[] = {
        [JR_CFG_TYPE_BOOL] = "bool",   [JR_CFG_TYPE_U32] = "integer", [JR_CFG_TYPE_U64] = "integer",
        [JR_CFG_TYPE_BYTES] = "bytes", [JR_CFG_TYPE_F64] = "number",  [JR_CFG_TYPE_STR] = "text",
        [JR_CFG_TYPE_OPTSTR] = "text", [JR_CFG_TYPE_ENUM] = "choice", [JR_CFG_TYPE_LIST] = "list",
        [JR_CFG_TYPE_PORT] = "port",
    };
    return names[type];
}

bool jr_config_is_number(enum jr_cfg_type type)
{
    switch (type) {
    case JR_CFG_TYPE_U32:
    case JR_CFG_TYPE_U64:
    case JR_CFG_TYPE_BYTES:
    case JR_CFG_TYPE_F64:
    case JR_CFG_TYPE_PORT:
        return true;
    default:
        return false;
    }
}

const char *jr_config_command_name(enum jr_cmd command)
{
    switch (command) {
    case JR_CMD_FRONTEND:
        return "frontend";
    case JR_CMD_ROUTER:
        return "router";
    case JR_CMD_BRIDGE:
        return "bridge";
    case JR_CMD_MOCKER:
        return "mocker";
    case JR_CMD_REPLAY:
        return "replay";
    case JR_CMD_CTL:
        return "ctl";
    default:
        return "";
    }
}

/* ---------------------------------------------------------------- names */

/* The next word of a space separated list from *pos; false at the end. */
static bool next_word(const char **pos, struct jr_str *ret)
{
    const char *p = *pos;
    if (!p)
        return false;
    while (*p == ' ')
        p++;
    size_t n = strcspn(p, " ");
    *ret = jr_str_of(p, n);
    *pos = p + n;
    return n > 0;
}

static bool row_answers(const struct jr_cfg_row *row, const char *name)
{
    if (!row->flag)
        return false;
    if (strcmp(row->flag, name) == 0)
        return true;
    const char *pos = row->aliases;
    struct jr_str word;
    while (next_word(&pos, &word))
        if (jr_str_eq(word, name))
            return true;
    return false;
}

int jr_config_find(enum jr_cmd command, const char *name)
{
    for (int i = 0; i < JR_CFG_COUNT; i++)
        if ((rows[i].commands & (unsigned)command) && row_answers(&rows[i], name))
            return i;
    return -1;
}

static bool can_negate(const struct jr_cfg_row *row)
{
    return row->type == JR_CFG_TYPE_BOOL || row->type == JR_CFG_TYPE_OPTSTR;
}

static void nearer(struct jr_str_nearest *nearest, const char *prefix, struct jr_str name)
{
    char candidate[sizeof nearest->name];
    (void)snprintf(candidate, sizeof candidate, "%s%.*s", prefix, (int)name.n, name.p);
    jr_str_nearer(nearest, candidate);
}

static int unknown_option(enum jr_cmd command, const char *typed, struct jr_errmsg *e)
{
    struct jr_str_nearest nearest = {.typed = typed};
    for (int i = 0; i < JR_CFG_COUNT; i++) {
        const struct jr_cfg_row *row = &rows[i];
        if (!(row->commands & (unsigned)command) || !row->flag)
            continue;
        struct jr_str word = jr_str_of(row->flag, strlen(row->flag));
        const char *pos = row->aliases;
        do {
            nearer(&nearest, "", word);
            if (can_negate(row))
                nearer(&nearest, "no-", word);
        } while (next_word(&pos, &word));
    }
    const char *what = "unknown option";
    for (int i = 0; i < JR_CFG_COUNT; i++)
        if (row_answers(&rows[i], typed))
            what = "this command has no option";
    return jr_errmsg_set(e, JR_EUSAGE, "%s --%.64s%s%s", what, typed,
                         nearest.name[0] ? ", the nearest is --" : "", nearest.name);
}

/* ---------------------------------------------------------------- values */

static void value_clear(struct value *v)
{
    jr_xfree(v->s);
    for (uint32_t i = 0; i < v->n; i++)
        jr_xfree(v->v[i]);
    jr_xfree(v->v);
    memset(v, 0, sizeof *v);
}

static int bad(const struct jr_cfg_row *row, const char *name, const char *text, const char *want,
               struct jr_errmsg *e)
{
    if (row->secret)
        text = "(not shown)";
    return jr_errmsg_set(e, JR_EINVAL, "%s: '%.64s' is not %s", name, text, want);
}

void jr_config_put_number(struct jr_buf *b, double x)
{
    bool whole = fabs(x) < 0x1p63 && floor(x) == x;
    jr_buf_printf(b, whole ? "%.0f" : "%.16g", x);
}

void jr_config_put_range(struct jr_buf *b, const struct jr_cfg_row *row)
{
    jr_config_put_number(b, row->min);
    jr_buf_puts(b, "..");
    jr_config_put_number(b, row->max);
}

static int bad_range(const struct jr_cfg_row *row, const char *name, const char *text,
                     struct jr_errmsg *e)
{
    struct jr_buf want;
    jr_buf_init(&want, 256);
    jr_buf_puts(&want, row->type == JR_CFG_TYPE_F64 ? "a number in " : "a whole number in ");
    jr_config_put_range(&want, row);
    int err = bad(row, name, text, jr_buf_str(&want), e);
    jr_buf_deinit(&want);
    return err;
}

static int bad_choice(const struct jr_cfg_row *row, const char *name, const char *text,
                      struct jr_errmsg *e)
{
    char want[160];
    (void)snprintf(want, sizeof want, "one of: %s", row->choices);
    return bad(row, name, text, want, e);
}

/* What stands behind the digits of a size: a power of 1024, or 0 when it is no unit. */
static uint64_t unit_of(const char *s)
{
    static const char letters[] = "kmgt";
    if (*s == '\0' || jr_str_ieq(jr_str_of(s, strlen(s)), "b"))
        return 1;
    const char *at = strchr(letters, tolower((unsigned char)*s));
    if (!at)
        return 0;
    struct jr_str rest = jr_str_of(s + 1, strlen(s + 1));
    if (rest.n != 0 && !jr_str_ieq(rest, "b") && !jr_str_ieq(rest, "ib") && !jr_str_ieq(rest, "i"))
        return 0;
    return UINT64_C(1) << (10 * (at - letters + 1));
}

static int parse_integer(const struct jr_cfg_row *row, const char *name, const char *text,
                         uint64_t *ret, struct jr_errmsg *e)
{
    if (!isdigit((unsigned char)text[0]))
        return bad_range(row, name, text, e);
    char *end;
    errno = 0;
    unsigned long long u = strtoull(text, &end, 10);
    uint64_t unit = row->type == JR_CFG_TYPE_BYTES ? unit_of(end) : (*end == '\0');
    if (errno != 0 || unit == 0 || u > UINT64_MAX / unit)
        return bad_range(row, name, text, e);
    u *= unit;
    if (u < (uint64_t)row->min || u > (uint64_t)row->max)
        return bad_range(row, name, text, e);
    *ret = u;
    return 0;
}

static int parse_f64(const struct jr_cfg_row *row, const char *name, const char *text, double *ret,
                     struct jr_errmsg *e)
{
    char *end;
    if (text[0] == '\0' || strspn(text, "0123456789+-.eE") != strlen(text))
        return bad_range(row, name, text, e);
    double f = strtod(text, &end);
    if (*end != '\0' || !isfinite(f) || f < row->min || f > row->max)
        return bad_range(row, name, text, e);
    *ret = f;
    return 0;
}

static int parse_bool(const struct jr_cfg_row *row, const char *name, const char *text, bool *ret,
                      struct jr_errmsg *e)
{
    static const char *const words[] = {"true", "1", "yes", "on", "false", "0", "no", "off"};
    for (unsigned i = 0; i < 8; i++)
        if (jr_str_ieq(jr_str_of(text, strlen(text)), words[i])) {
            *ret = i < 4;
            return 0;
        }
    return bad(row, name, text, "true or false", e);
}

static int parse_enum(const struct jr_cfg_row *row, const char *name, const char *text,
                      struct value *v, struct jr_errmsg *e)
{
    char low[64];
    size_t n = strlen(text);
    for (size_t i = 0; i <= n && n < sizeof low; i++)
        low[i] = text[i] == '_' ? '-' : (char)tolower((unsigned char)text[i]);
    const char *pos = row->choices;
    struct jr_str word;
    for (unsigned i = 0; n < sizeof low && next_word(&pos, &word); i++)
        if (jr_str_eq(word, low)) {
            v->u = i;
            v->s = jr_xstrdup(low);
            return 0;
        }
    return bad_choice(row, name, text, e);
}

static int check_text(const struct jr_cfg_row *row, const char *name, const char *text,
                      struct jr_errmsg *e)
{
    size_t max = row->max > 0 ? (size_t)row->max : JR_CONFIG_VALUE_MAX;
    if (strlen(text) > max)
        return jr_errmsg_set(e, JR_EINVAL, "%s: longer than %zu bytes", name, max);
    if (text[0] == '\0')
        return jr_errmsg_set(e, JR_EINVAL, "%s: needs a value", name);
    return 0;
}

static int canonical(const struct jr_cfg_row *row, const char *name, const char *text, char *ret,
                     size_t cap, struct jr_errmsg *e)
{
    int rv =
        row->canon ? row->canon(text, ret, cap) : (jr_str_copy(ret, cap, text) ? 0 : JR_EINVAL);
    if (rv < 0 && row->choices)
        return bad_choice(row, name, text, e);
    if (rv < 0)
        return bad(row, name, text, row->expects, e);
    return 0;
}

/* Appends the elements of a comma separated text. */
static int parse_list(const struct jr_cfg_row *row, const char *name, const char *text,
                      struct value *v, struct jr_errmsg *e)
{
    for (const char *p = text;; p++) {
        size_t n = strcspn(p, ",");
        char *item = jr_xstrndup(p, n);
        char canon[JR_CONFIG_VALUE_MAX + 1];
        int rv = check_text(row, name, item, e);
        if (rv == 0)
            rv = canonical(row, name, item, canon, sizeof canon, e);
        jr_xfree(item);
        if (rv < 0)
            return rv;
        if (v->n == JR_CONFIG_LIST_MAX)
            return jr_errmsg_set(e, JR_EINVAL, "%s: more than %d values", name, JR_CONFIG_LIST_MAX);
        v->v = jr_xrealloc(v->v, (v->n + 1) * sizeof *v->v);
        v->v[v->n++] = jr_xstrdup(canon);
        p += n;
        if (*p == '\0')
            return 0;
    }
}

static int parse_optstr(const char *text, struct value *v)
{
    struct jr_str s = jr_str_of(text, strlen(text));
    if (jr_str_ieq(s, "false") || jr_str_ieq(s, "0") || jr_str_ieq(s, "no") ||
        jr_str_ieq(s, "off")) {
        v->set = false;
        return 0;
    }
    bool bare =
        jr_str_ieq(s, "true") || jr_str_ieq(s, "1") || jr_str_ieq(s, "yes") || jr_str_ieq(s, "on");
    v->s = jr_xstrdup(bare ? "" : text);
    return 0;
}

static int parse_by_type(const struct jr_cfg_row *row, const char *name, const char *text,
                         struct value *v, struct jr_errmsg *e)
{
    char canon[JR_CONFIG_VALUE_MAX + 1];
    int rv = 0;
    switch (row->type) {
    case JR_CFG_TYPE_BOOL:
        return parse_bool(row, name, text, &v->b, e);
    case JR_CFG_TYPE_U32:
    case JR_CFG_TYPE_U64:
    case JR_CFG_TYPE_BYTES:
    case JR_CFG_TYPE_PORT:
        return parse_integer(row, name, text, &v->u, e);
    case JR_CFG_TYPE_F64:
        return parse_f64(row, name, text, &v->f, e);
    case JR_CFG_TYPE_LIST:
        return parse_list(row, name, text, v, e);
    case JR_CFG_TYPE_OPTSTR:
        rv = strlen(text) > JR_CONFIG_VALUE_MAX ? check_text(row, name, text, e) : 0;
        return rv < 0 ? rv : parse_optstr(text, v);
    case JR_CFG_TYPE_STR:
    case JR_CFG_TYPE_ENUM:
        rv = check_text(row, name, text, e);
        if (rv == 0)
            rv = canonical(row, name, text, canon, sizeof canon, e);
        if (rv == 0 && row->type == JR_CFG_TYPE_ENUM)
            rv = parse_enum(row, name, canon, v, e);
        else if (rv == 0)
            v->s = jr_xstrdup(canon);
        return rv;
    }
    return rv;
}

static bool is_none(const struct jr_cfg_row *row, const char *text)
{
    return row->nullable && (jr_str_ieq(jr_str_of(text, strlen(text)), "none") ||
                             (row->also_none && strcmp(text, row->also_none) == 0));
}

/* Sets a value from text; what was there is replaced, but lists of the same source grow. */
static int value_parse(struct value *v, const struct jr_cfg_row *row, const char *name,
                       const char *text, enum jr_cfg_source source, struct jr_errmsg *e)
{
    bool grow = row->type == JR_CFG_TYPE_LIST && v->set && v->source == source;
    if (!grow)
        value_clear(v);
    v->source = source;
    if (is_none(row, text))
        return 0;
    v->set = true;
    return parse_by_type(row, name, text, v, e);
}

/* ---------------------------------------------------------------- sources */

static int load_defaults(struct jr_config *cfg, struct jr_errmsg *e)
{
    int rv = 0;
    for (int i = 0; i < JR_CFG_COUNT && rv == 0; i++)
        if (rows[i].def)
            rv = value_parse(&cfg->values[i], &rows[i], rows[i].key, rows[i].def,
                             JR_CFG_FROM_DEFAULT, e);
    return rv;
}

static int load_env(struct jr_config *cfg, char *(*env)(const char *name), struct jr_errmsg *e)
{
    for (int i = 0; i < JR_CFG_COUNT; i++) {
        if (!(rows[i].commands & (unsigned)cfg->command))
            continue;
        const char *pos = rows[i].env;
        struct jr_str word;
        while (next_word(&pos, &word)) {
            char name[96];
            (void)snprintf(name, sizeof name, "%.*s", (int)word.n, word.p);
            const char *text = env(name);
            if (!text || text[0] == '\0')
                continue;
            int rv = value_parse(&cfg->values[i], &rows[i], name, text, JR_CFG_FROM_ENV, e);
            if (rv < 0)
                return rv;
            break;
        }
    }
    return 0;
}

/* Options that stand for others. Dynamo 1.2 (load-aware) and later (agentic). */
static const struct implied {
    enum jr_cfg_key when, key;
    const char *value;
    bool wins; /* over the option itself; else it is another default of it */
} implied[] = {
    {JR_CFG_LOAD_AWARE, JR_CFG_ROUTER_MODE, "kv", true},
    {JR_CFG_LOAD_AWARE, JR_CFG_ROUTER_KV_OVERLAP_SCORE_CREDIT, "0", true},
    {JR_CFG_LOAD_AWARE, JR_CFG_ROUTER_KV_EVENTS, "false", true},
    {JR_CFG_LOAD_AWARE, JR_CFG_ROUTER_DURABLE_KV_EVENTS, "false", true},
    {JR_CFG_LOAD_AWARE, JR_CFG_ROUTER_ASSUME_KV_REUSE, "false", true},
    {JR_CFG_LOAD_AWARE, JR_CFG_ROUTER_TRACK_ACTIVE_BLOCKS, "true", true},
    {JR_CFG_LOAD_AWARE, JR_CFG_ROUTER_TRACK_PREFILL_TOKENS, "true", true},
    {JR_CFG_LOAD_AWARE, JR_CFG_ROUTER_PREDICTED_TTL_SECS, "None", true},
    {JR_CFG_AGENTIC, JR_CFG_ROUTER_KV_OVERLAP_SCORE_CREDIT, "2", false},
    {JR_CFG_AGENTIC, JR_CFG_ROUTER_PREFILL_LOAD_SCALE, "4", false},
    {JR_CFG_AGENTIC, JR_CFG_ROUTER_DECODE_ACTIVE_REQUEST_WEIGHT, "64", false},
};

static int load_implied(struct jr_config *cfg, struct jr_errmsg *e)
{
    for (size_t i = 0; i < sizeof implied / sizeof *implied; i++) {
        const struct implied *p = &implied[i];
        const struct value *when = &cfg->values[p->when];
        struct value *v = &cfg->values[p->key];
        if (!when->b || (!p->wins && v->source != JR_CFG_FROM_DEFAULT))
            continue;
        int rv = value_parse(v, &rows[p->key], rows[p->when].flag, p->value, when->source, e);
        if (rv < 0)
            return rv;
    }
    return 0;
}

/* --no-x */
static int negate(struct jr_config *cfg, int key, const char *shown, bool has_text,
                  struct jr_errmsg *e)
{
    if (has_text)
        return jr_errmsg_set(e, JR_EUSAGE, "%s takes no value", shown);
    return value_parse(&cfg->values[key], &rows[key], shown, "false", JR_CFG_FROM_CLI, e);
}

/* One option at argv[*i]; moves *i over its value. */
static int load_option(struct jr_config *cfg, int argc, char *const *argv, int *i,
                       struct jr_errmsg *e)
{
    char name[96], shown[104];
    const char *word = argv[*i] + 2, *eq = strchr(word, '=');
    size_t n = eq ? (size_t)(eq - word) : strlen(word);
    (void)snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), word);
    (void)snprintf(shown, sizeof shown, "--%s", name);

    int key = jr_config_find(cfg->command, name);
    if (key < 0 && strncmp(name, "no-", 3) == 0) {
        key = jr_config_find(cfg->command, name + 3);
        if (key >= 0 && can_negate(&rows[key]))
            return negate(cfg, key, shown, eq != NULL, e);
        key = -1;
    }
    if (key < 0)
        return unknown_option(cfg->command, name, e);

    const struct jr_cfg_row *row = &rows[key];
    const char *text = eq ? eq + 1 : NULL;
    if (!text && can_negate(row)) {
        bool takes_next =
            row->type == JR_CFG_TYPE_OPTSTR && *i + 1 < argc && argv[*i + 1][0] != '-';
        text = takes_next ? argv[++*i] : "true";
    } else if (!text) {
        if (*i + 1 >= argc)
            return jr_errmsg_set(e, JR_EUSAGE, "%s needs a value: %s", shown, row->metavar);
        text = argv[++*i];
    }
    return value_parse(&cfg->values[key], row, shown, text, JR_CFG_FROM_CLI, e);
}

static int load_cli(struct jr_config *cfg, int argc, char *const *argv, unsigned args_max,
                    struct jr_errmsg *e)
{
    bool only_args = false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (!only_args && strcmp(word, "--") == 0) {
            only_args = true;
            continue;
        }
        if (!only_args && strcmp(word, "-i") == 0 &&
            jr_config_find(cfg->command, "interactive") >= 0) {
            cfg->values[JR_CFG_INTERACTIVE].b = true; /* the one short option that Dynamo has */
            cfg->values[JR_CFG_INTERACTIVE].source = JR_CFG_FROM_CLI;
            continue;
        }
        if (!only_args && word[0] == '-' && word[1] == '-') {
            int rv = load_option(cfg, argc, argv, &i, e);
            if (rv < 0)
                return rv;
            continue;
        }
        if (!only_args && word[0] == '-' && word[1] != '\0')
            return jr_errmsg_set(e, JR_EUSAGE, "unknown option %.64s, options begin with --", word);
        if (cfg->n_args >= args_max)
            return jr_errmsg_set(e, JR_EUSAGE, "unexpected word '%.64s'", word);
        cfg->args = jr_xrealloc(cfg->args, (cfg->n_args + 1) * sizeof *cfg->args);
        cfg->args[cfg->n_args++] = jr_xstrdup(word);
    }
    return 0;
}

static int check_required(const struct jr_config *cfg, struct jr_errmsg *e)
{
    for (int i = 0; i < JR_CFG_COUNT; i++)
        if ((rows[i].required & (unsigned)cfg->command) && !cfg->values[i].set)
            return jr_errmsg_set(e, JR_EUSAGE, "--%s %s is required", rows[i].flag,
                                 rows[i].metavar);
    return 0;
}

int jr_config_load(enum jr_cmd command, int argc, char *const *argv, unsigned args_max,
                   char *(*env)(const char *name), struct jr_errmsg *e, struct jr_config **ret)
{
    struct jr_config *cfg = jr_xalloc(sizeof *cfg);
    cfg->command = command;
    int rv = load_defaults(cfg, e);
    if (rv == 0)
        rv = load_env(cfg, env, e);
    if (rv == 0)
        rv = load_cli(cfg, argc, argv, args_max, e);
    if (rv == 0)
        rv = load_implied(cfg, e);
    if (rv == 0)
        rv = check_required(cfg, e);
    if (rv == 0)
        rv = jr_config_check(cfg, e);
    if (rv < 0) {
        jr_config_destroy(cfg);
        return rv;
    }
    *ret = cfg;
    return 0;
}

void jr_config_destroy(struct jr_config *cfg)
{
    if (!cfg)
        return;
    for (int i = 0; i < JR_CFG_COUNT; i++)
        value_clear(&cfg->values[i]);
    for (uint32_t i = 0; i < cfg->n_args; i++)
        jr_xfree((void *)(uintptr_t)cfg->args[i]);
    jr_xfree(cfg->args);
    jr_xfree(cfg);
}

/* ---------------------------------------------------------------- getters */

static const struct value *get(const struct jr_config *cfg, enum jr_cfg_key key, unsigned types)
{
    JR_ASSERT((unsigned)key < JR_CFG_COUNT);
    JR_ASSERT((1u << rows[key].type) & types);
    return &cfg->values[key];
}

#define T(name) (1u << JR_CFG_TYPE_##name)

bool jr_config_is_set(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return get(cfg, key, ~0u)->set;
}

enum jr_cfg_source jr_config_source(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return get(cfg, key, ~0u)->source;
}

enum jr_cmd jr_config_command(const struct jr_config *cfg)
{
    return cfg->command;
}

bool jr_config_bool(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return get(cfg, key, T(BOOL))->b;
}

uint32_t jr_config_u32(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return (uint32_t)get(cfg, key, T(U32))->u;
}

uint64_t jr_config_u64(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return get(cfg, key, T(U32) | T(U64) | T(BYTES) | T(PORT))->u;
}

double jr_config_f64(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return get(cfg, key, T(F64))->f;
}

uint64_t jr_config_ms(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return (uint64_t)llround(get(cfg, key, T(F64))->f * 1000.0);
}

const char *jr_config_str(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return get(cfg, key, T(STR) | T(OPTSTR) | T(ENUM))->s;
}

unsigned jr_config_enum(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return (unsigned)get(cfg, key, T(ENUM))->u;
}

const char *const *jr_config_list(const struct jr_config *cfg, enum jr_cfg_key key, uint32_t *ret_n)
{
    const struct value *v = get(cfg, key, T(LIST));
    *ret_n = v->n;
    return (const char *const *)v->v;
}

uint16_t jr_config_port(const struct jr_config *cfg, enum jr_cfg_key key)
{
    return (uint16_t)get(cfg, key, T(PORT))->u;
}

const char *const *jr_config_args(const struct jr_config *cfg, uint32_t *ret_n)
{
    *ret_n = cfg->n_args;
    return cfg->args;
}

/* ---------------------------------------------------------------- dump */

/* Text as JSON; what stands before '@' in a URL is a credential. */
static void dump_text(struct jr_buf *b, const char *s)
{
    struct jr_buf clean;
    jr_buf_init(&clean, (size_t)JR_CONFIG_VALUE_MAX * 2);
    while (*s) {
        const char *scheme = strstr(s, "://");
        size_t head = scheme ? (size_t)(scheme - s) + 3 : strlen(s);
        jr_buf_put(&clean, s, head);
        s += head;
        size_t host = strcspn(s, "/,@");
        /* A password may hold '/', so look at the whole element for the last '@'. */
        size_t element = strcspn(s, ",");
        for (size_t i = host; scheme && i < element; i++)
            if (s[i] == '@')
                host = i + 1;
        if (scheme && host > 0 && s[host - 1] == '@') {
            jr_buf_puts(&clean, "***@");
            s += host;
        }
    }
    jr_buf_json_str(b, jr_buf_str(&clean));
    jr_buf_deinit(&clean);
}

static void dump_value(struct jr_buf *b, const struct jr_cfg_row *row, const struct value *v)
{
    if (!v->set || row->secret) {
        jr_buf_puts(b, "null");
        return;
    }
    switch (row->type) {
    case JR_CFG_TYPE_BOOL:
        jr_buf_puts(b, v->b ? "true" : "false");
        break;
    case JR_CFG_TYPE_F64:
        jr_buf_printf(b, "%.15g", v->f);
        break;
    case JR_CFG_TYPE_STR:
    case JR_CFG_TYPE_OPTSTR:
    case JR_CFG_TYPE_ENUM:
        dump_text(b, v->s);
        break;
    case JR_CFG_TYPE_LIST:
        for (uint32_t i = 0; i < v->n; i++) {
            jr_buf_puts(b, i == 0 ? "[" : ", ");
            dump_text(b, v->v[i]);
        }
        jr_buf_puts(b, "]");
        break;
    default:
        jr_buf_printf(b, "%llu", (unsigned long long)v->u);
    }
}

void jr_config_dump(const struct jr_config *cfg, struct jr_buf *b)
{
    static const char *const sources[] = {"default", "env", "cli"};
    jr_buf_printf(b, "{\n  \"command\": \"%s\",\n  \"options\": {",
                  jr_config_command_name(cfg->command));
    const char *sep = "\n";
    for (int i = 0; i < JR_CFG_COUNT; i++) {
        const struct jr_cfg_row *row = &rows[i];
        if (!(row->commands & (unsigned)cfg->command))
            continue;
        char env_only[96];
        const char *pos = row->env;
        struct jr_str word = {0};
        (void)next_word(&pos, &word);
        (void)snprintf(env_only, sizeof env_only, "%.*s", (int)word.n, word.p);
        jr_buf_printf(b, "%s    \"%s\": {\"value\": ", sep, row->flag ? row->flag : env_only);
        dump_value(b, row, &cfg->values[i]);
        jr_buf_printf(b, ", \"source\": \"%s\"%s}", sources[cfg->values[i].source],
                      row->secret ? ", \"secret\": true" : "");
        sep = ",\n";
    }
    jr_buf_puts(b, "\n  }\n}\n");
}
