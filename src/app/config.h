/* SPDX-License-Identifier: Apache-2.0 */
/* config: the effective options of one command: command line, else environment, else default.
 *
 *     config_table.h ──► jr_config_load(command, argv, environment) ──► struct jr_config
 *                                     │                                  typed getters, source
 *                                     └─ JR_EUSAGE 64, JR_EINVAL 65, JR_ECONFIG 78: one line in e
 *
 * Immutable once loaded; may then be read from any thread. Strings and lists returned by getters
 * borrow from it. */
#ifndef JR_APP_CONFIG_H
#define JR_APP_CONFIG_H

#include "app/config_table.h"
#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Commands, as bits of a row's mask. */
enum jr_cmd {
    JR_CMD_FRONTEND = 1,
    JR_CMD_ROUTER = 2,
    JR_CMD_BRIDGE = 4,
    JR_CMD_MOCKER = 8,
    JR_CMD_REPLAY = 16,
    JR_CMD_CTL = 32,
    JR_CMD_ALL = 63,
    JR_CMD_ROUTING = JR_CMD_FRONTEND | JR_CMD_ROUTER,
    JR_CMD_HTTP = JR_CMD_ROUTING | JR_CMD_MOCKER,
    JR_CMD_NATS = JR_CMD_ROUTING | JR_CMD_BRIDGE | JR_CMD_MOCKER,
    JR_CMD_HTTPS = JR_CMD_ROUTING | JR_CMD_BRIDGE | JR_CMD_REPLAY | JR_CMD_CTL,
    JR_CMD_NATS_CTL = JR_CMD_NATS | JR_CMD_CTL,
};

enum jr_cfg_type {
    JR_CFG_TYPE_BOOL, /* --x, --no-x, --x=true; environment: true 1 yes on, false 0 no off */
    JR_CFG_TYPE_U32,
    JR_CFG_TYPE_U64,
    JR_CFG_TYPE_BYTES, /* u64 with K M G T (KiB, KB, …: all powers of 1024) */
    JR_CFG_TYPE_F64,
    JR_CFG_TYPE_STR,
    JR_CFG_TYPE_OPTSTR, /* --x or --x TEXT: set to "" or TEXT; --no-x unsets it */
    JR_CFG_TYPE_ENUM,   /* one of .choices; lower-cased, '_' reads as '-' */
    JR_CFG_TYPE_LIST,   /* repeatable, and split at commas; the command line replaces the rest */
    JR_CFG_TYPE_PORT,
};

enum jr_cfg_group {
#define X(name, title) JR_CFG_GROUP_##name,
    JR_CFG_GROUP_TABLE(X)
#undef X
        JR_CFG_GROUP_COUNT
};

enum jr_cfg_key {
#define X(key, ...) JR_CFG_##key,
    JR_CFG_TABLE(X)
#undef X
        JR_CFG_COUNT
};

enum jr_cfg_source { JR_CFG_FROM_DEFAULT, JR_CFG_FROM_ENV, JR_CFG_FROM_CLI };

struct jr_cfg_row {
    const char *key;
    enum jr_cfg_type type;
    const char *flag;
    const char *env;
    const char *def;
    unsigned commands;
    enum jr_cfg_group group;
    const char *metavar;
    const char *help;
    const char *aliases;
    const char *choices;
    double min, max; /* of numbers; max of a text: most bytes, 0: JR_CONFIG_VALUE_MAX */
    bool nullable;
    const char *also_none; /* a further value that is "None"; NULL: there is none */
    bool secret;
    unsigned required; /* commands that need it */
    /* Rewrites a text (of a list: each element) before it is checked; JR_EINVAL when it is not what
     * `expects` says. May be NULL. */
    int (*canon)(const char *text, char *ret, size_t cap);
    const char *expects;
    const char *since; /* NULL: 0.1 */
};

struct jr_config;

const struct jr_cfg_row *jr_config_row(enum jr_cfg_key key);
const char *jr_config_group_title(enum jr_cfg_group group);
const char *jr_config_type_name(enum jr_cfg_type type);
bool jr_config_is_number(enum jr_cfg_type type); /* its row has bounds */
/* A bound of a row, whole numbers as such; MIN..MAX. */
void jr_config_put_number(struct jr_buf *b, double x);
void jr_config_put_range(struct jr_buf *b, const struct jr_cfg_row *row);
/* The row that answers to a name (flag or alias, without "--") of that command, or -1. */
int jr_config_find(enum jr_cmd command, const char *name);

/* Reads the words behind the command (argv[0] is the first of them; borrows for the call). env is
 * called with names of variables and returns NULL when unset (getenv in the program). Words that
 * are no options are kept, at most args_max. On success *ret is owned by the caller.
 * JR_EUSAGE unknown option or missing value; JR_EINVAL bad value; JR_ECONFIG options that do not go
 * together; the words for the user are in e. */
JR_MUST_CHECK int jr_config_load(enum jr_cmd command, int argc, char *const *argv,
                                 unsigned args_max, char *(*env)(const char *name),
                                 struct jr_errmsg *e, struct jr_config **ret);
void jr_config_destroy(struct jr_config *cfg); /* NULL is fine */

/* False: has no value ("None", or no default and not given). Getters then return 0, NULL. */
bool jr_config_is_set(const struct jr_config *cfg, enum jr_cfg_key key);
enum jr_cfg_source jr_config_source(const struct jr_config *cfg, enum jr_cfg_key key);
enum jr_cmd jr_config_command(const struct jr_config *cfg);

/* Asserts that the row has the type: BOOL; U32; U32, U64, BYTES, PORT; F64; STR, OPTSTR, ENUM;
 * LIST; PORT. */
bool jr_config_bool(const struct jr_config *cfg, enum jr_cfg_key key);
uint32_t jr_config_u32(const struct jr_config *cfg, enum jr_cfg_key key);
uint64_t jr_config_u64(const struct jr_config *cfg, enum jr_cfg_key key);
double jr_config_f64(const struct jr_config *cfg, enum jr_cfg_key key);
/* An F64 in seconds as whole milliseconds. */
uint64_t jr_config_ms(const struct jr_config *cfg, enum jr_cfg_key key);
const char *jr_config_str(const struct jr_config *cfg, enum jr_cfg_key key);
/* An ENUM as its place in .choices, from 0. */
unsigned jr_config_enum(const struct jr_config *cfg, enum jr_cfg_key key);
const char *const *jr_config_list(const struct jr_config *cfg, enum jr_cfg_key key,
                                  uint32_t *ret_n);
uint16_t jr_config_port(const struct jr_config *cfg, enum jr_cfg_key key);
/* The words that are no options, in order. */
const char *const *jr_config_args(const struct jr_config *cfg, uint32_t *ret_n);

/* True when the cost function of Dynamo is to be used: chosen, or one of its weights or a preset
 * was given. */
bool jr_config_cost_model_is_dynamo(const struct jr_config *cfg);
/* Does a bridge tell of blocks beside the device (app/bridge/lower.h)? */
bool jr_config_lower_media(const struct jr_config *cfg);

/* The rules between options (config_check.c). jr_config_load has called it. */
JR_MUST_CHECK int jr_config_check(const struct jr_config *cfg, struct jr_errmsg *e);
/* Can the files that are read at start be read? JR_ECONFIG with words in e. */
JR_MUST_CHECK int jr_config_check_files(const struct jr_config *cfg, struct jr_errmsg *e);
/* What was given but has no effect, one sentence a call: starts with *pos = 0; NULL at the end. The
 * text borrows from a static table or from note (caller's). */
const char *jr_config_note(const struct jr_config *cfg, unsigned *pos, struct jr_errmsg *note);

/* The effective options as JSON: {"command":…, "options":{"http-port":{"value":…,"source":…}}}.
 * Values of secrets and credentials inside URLs are not written. */
void jr_config_dump(const struct jr_config *cfg, struct jr_buf *b);

/* Name of a command, as it is typed. */
const char *jr_config_command_name(enum jr_cmd command);

/* The .canon functions of the table (config_check.c). */
int jr_config_canon_log_level(const char *text, char *ret, size_t cap); /* "trace" is debug, … */
int jr_config_canon_http_url(const char *text, char *ret, size_t cap);  /* drops '/' at the end */
int jr_config_canon_zmq_url(const char *text, char *ret, size_t cap);
int jr_config_canon_endpoint(const char *text, char *ret, size_t cap); /* drops "dyn://" */
/* A token of a NATS subject; dots become '_', as names of Pods may have them. */
int jr_config_canon_replica_id(const char *text, char *ret, size_t cap);
int jr_config_canon_model_alias(const char *text, char *ret, size_t cap);
int jr_config_canon_retry_status(const char *text, char *ret, size_t cap);
int jr_config_canon_port(const char *text, char *ret, size_t cap);
int jr_config_canon_metric_name(const char *text, char *ret, size_t cap);

#endif
