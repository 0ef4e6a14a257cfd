/* SPDX-License-Identifier: Apache-2.0 */
#include "app/cli.h"
#include "app/bridge/bridge.h"
#include "app/ctl/ctl.h"
#include "app/docs.h"
#include "app/docs_complete.h"
#include "app/frontend/frontend.h"
#include "app/log_sink.h"
#include "app/mocker/mocker.h"
#include "app/replay/replay.h"
#include "app/router/router.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "jetrouter/version.h"
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct jr_command commands[] = {
    {"frontend", "", "OpenAI-compatible HTTP front that routes and proxies",
     "jetrouter frontend --http-port 8000 --router-mode kv --embedded-nats", jr_frontend_main,
     JR_CMD_FRONTEND, 0},
    {"router", "", "standalone router of one endpoint",
     "jetrouter router --endpoint dynamo.prefill.generate --router-block-size 64", jr_router_main,
     JR_CMD_ROUTER, 0},
    {"bridge", "", "publishes an engine's KV events to JetStream",
     "jetrouter bridge --engine-url http://127.0.0.1:8100 "
     "--kv-events-endpoint tcp://127.0.0.1:5557",
     jr_bridge_main, JR_CMD_BRIDGE, 0},
    {"mocker", "", "simulated engines",
     "jetrouter mocker --http-port 8100 --num-workers 4 --zmq-kv-events-ports 5557 --bridge",
     jr_mocker_main, JR_CMD_MOCKER, 0},
    {"replay", "", "replays a trace against a URL and reports",
     "jetrouter replay --trace trace.jsonl --url http://127.0.0.1:8000 --limit 500", jr_replay_main,
     JR_CMD_REPLAY, 0},
    {"ctl", "ACTION",
     "asks a replica: live, ready, state, workers, replicas, digest, snapshot, reset, drain, tail; "
     "or NATS: skip",
     "jetrouter ctl --url http://127.0.0.1:8000 workers", jr_ctl_main, JR_CMD_CTL, 1},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

const struct jr_command *jr_cli_commands(unsigned *ret_n)
{
    *ret_n = COMMANDS;
    return commands;
}

static const struct jr_command *find_command(const char *name)
{
    for (unsigned i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* ---------------------------------------------------------------- output */

/* "jetrouter frontend: <message>. <Hint>." on one line; returns the exit code. */
static int fail(const char *command, int err, const struct jr_errmsg *e)
{
    char message[sizeof e->text], hint[160];
    (void)jr_str_copy(message, sizeof message, e->text[0] ? e->text : jr_err_text(err));
    size_t n = strlen(message);
    while (n > 0 && (message[n - 1] == '.' || message[n - 1] == '\n' || message[n - 1] == ' '))
        message[--n] = '\0';
    for (char *p = message; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
    (void)jr_str_copy(hint, sizeof hint, jr_err_hint(err));
    if (hint[0] >= 'a' && hint[0] <= 'z')
        hint[0] = (char)(hint[0] - 'a' + 'A');
    (void)fprintf(stderr, "jetrouter%s%s: %s. %s.\n", command[0] ? " " : "", command, message,
                  hint);
    return jr_err_exit_code(err);
}

static int print(const struct jr_buf *b)
{
    bool ok = fwrite(jr_buf_str(b), 1, b->n, stdout) == b->n && fflush(stdout) == 0 && b->err == 0;
    return ok ? 0 : jr_err_exit_code(JR_EIO);
}

#define TEXT_MAX (4 << 20)

static int print_usage(void)
{
    struct jr_buf b;
    jr_buf_init(&b, TEXT_MAX);
    jr_docs_usage(&b);
    int rv = print(&b);
    jr_buf_deinit(&b);
    return rv;
}

static int print_help(const struct jr_command *command)
{
    struct jr_buf b;
    jr_buf_init(&b, TEXT_MAX);
    jr_docs_help(command, &b);
    int rv = print(&b);
    jr_buf_deinit(&b);
    return rv;
}

/* Texts for the build, not listed. */
static const struct doc {
    const char *name;
    void (*write)(struct jr_buf *b);
} docs[] = {
    {"config", jr_docs_config},   {"metrics", jr_docs_metrics}, {"errors", jr_docs_errors},
    {"man", jr_docs_man},         {"bash", jr_docs_bash},       {"zsh", jr_docs_zsh},
    {"options", jr_docs_options},
};
#define DOCS (sizeof docs / sizeof docs[0])

/* jetrouter docs NAME */
static int print_docs(const char *what)
{
    for (unsigned i = 0; what && i < DOCS; i++)
        if (strcmp(what, docs[i].name) == 0) {
            struct jr_buf b;
            jr_buf_init(&b, TEXT_MAX);
            docs[i].write(&b);
            int rv = print(&b);
            jr_buf_deinit(&b);
            return rv;
        }
    struct jr_errmsg e = {"which text? config, metrics, errors, man, bash, zsh or options"};
    return fail("docs", JR_EUSAGE, &e);
}

static int unknown_command(const char *name)
{
    struct jr_errmsg e = {""};
    struct jr_str_nearest nearest = {.typed = name};
    jr_str_nearer(&nearest, "help");
    for (unsigned i = 0; i < COMMANDS; i++)
        jr_str_nearer(&nearest, commands[i].name);
    if (nearest.name[0])
        (void)jr_errmsg_set(&e, JR_EUSAGE, "unknown command '%.64s', the nearest is '%s'", name,
                            nearest.name);
    else
        (void)jr_errmsg_set(&e, JR_EUSAGE, "unknown command '%.64s'", name);
    return fail("", JR_EUSAGE, &e);
}

/* ---------------------------------------------------------------- running */

static bool has_word(int argc, char *const *argv, const char *word)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], word) == 0)
            return true;
    return false;
}

static bool wants_help(int argc, char *const *argv)
{
    return has_word(argc, argv, "--help") || has_word(argc, argv, "-h");
}

static int print_version(void)
{
    return printf("jetrouter %s\n", JETROUTER_VERSION) > 0 ? 0 : jr_err_exit_code(JR_EIO);
}

static int dump_config(const struct jr_config *cfg, struct jr_errmsg *e)
{
    const char *path = jr_config_str(cfg, JR_CFG_DUMP_CONFIG_TO);
    if (!path)
        return 0;
    struct jr_buf b;
    jr_buf_init(&b, TEXT_MAX);
    jr_config_dump(cfg, &b);
    FILE *f = fopen(path, "w");
    bool ok = f && fwrite(jr_buf_str(&b), 1, b.n, f) == b.n;
    int why = errno;
    if (f && fclose(f) != 0)
        ok = false;
    jr_buf_deinit(&b);
    if (!ok)
        return jr_errmsg_set(e, JR_EIO, "--dump-config-to: cannot write %.128s: %s", path,
                             strerror(why));
    return 0;
}

/* The rules between options held already. */
static int check_only(const struct jr_command *command, const struct jr_config *cfg,
                      struct jr_errmsg *e)
{
    int rv = jr_config_check_files(cfg, e);
    if (rv < 0)
        return rv;
    return printf("jetrouter %s: the options are good\n", command->name) > 0
               ? 0
               : jr_err_exit_code(JR_EIO);
}

static void log_notes(const struct jr_config *cfg)
{
    struct jr_errmsg note;
    unsigned pos = 0;
    const char *text;
    while ((text = jr_config_note(cfg, &pos, &note)))
        jr_log(JR_LOG_WARN, "config.note", "text=\"%s\"", text);
}

#ifdef JR_FAILPOINTS
static void sleep_ms(unsigned ms)
{
    (void)usleep(ms * 1000);
}

static int set_failpoints(struct jr_errmsg *e)
{
    const char *spec = getenv("JETROUTER_FAILPOINTS");
    jr_failpoint_set_sleep(sleep_ms);
    if (spec && spec[0] && jr_failpoint_set(spec) < 0)
        return jr_errmsg_set(e, JR_EINVAL, "JETROUTER_FAILPOINTS: cannot read '%.128s'", spec);
    return 0;
}
#else
static int set_failpoints(struct jr_errmsg *e)
{
    (void)e;
    return 0;
}
#endif

static int run(const struct jr_command *command, int argc, char *const *argv)
{
    struct jr_errmsg e = {""};
    struct jr_config *cfg = NULL;
    int rv = jr_config_load(command->cmd, argc, argv, command->args_max, getenv, &e, &cfg);
    if (rv < 0)
        return fail(command->name, rv, &e);
    jr_log_sink_configure(cfg);
    rv = set_failpoints(&e);
    if (rv == 0)
        rv = dump_config(cfg, &e);
    if (rv == 0)
        log_notes(cfg);
    if (rv == 0 && jr_config_bool(cfg, JR_CFG_CHECK_CONFIG))
        rv = check_only(command, cfg, &e);
    else if (rv == 0)
        rv = command->main(cfg, &e);
    jr_config_destroy(cfg);
    return rv < 0 ? fail(command->name, rv, &e) : rv;
}

int jr_cli_main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        struct jr_errmsg e = {
            "a command is missing: frontend, router, bridge, mocker, replay, ctl"};
        return fail("", JR_EUSAGE, &e);
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "version") == 0)
        return print_version();
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return print_usage();
    if (strcmp(word, "docs") == 0)
        return print_docs(argc > 2 ? argv[2] : NULL);
    if (strcmp(word, "help") == 0) {
        if (argc < 3)
            return print_usage();
        word = argv[2];
    }
    const struct jr_command *command = find_command(word);
    if (!command)
        return unknown_command(word);
    if (strcmp(argv[1], "help") == 0 || wants_help(argc - 2, argv + 2))
        return print_help(command);
    if (has_word(argc - 2, argv + 2, "--version"))
        return print_version();
    return run(command, argc - 2, argv + 2);
}
