/* SPDX-License-Identifier: Apache-2.0 */
#include "app/docs.h"
#include "app/frontend/errors.h"
#include "app/metrics.h"
#include "jetrouter/version.h"
#include "wire/openai_reply.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define WIDTH 96

/* ---------------------------------------------------------------- pieces of an option */

static void put_choices(struct jr_buf *b, const struct jr_cfg_row *row)
{
    for (const char *p = row->choices; *p; p++)
        if (*p == ' ')
            jr_buf_puts(b, ", ");
        else
            jr_buf_put(b, p, 1);
}

/* "1..65535", "text, none" and so on, for people. */
static void put_range(struct jr_buf *b, const struct jr_cfg_row *row)
{
    if (jr_config_is_number(row->type))
        jr_config_put_range(b, row);
    else if (row->type == JR_CFG_TYPE_ENUM)
        put_choices(b, row);
    else if (row->type == JR_CFG_TYPE_BOOL)
        jr_buf_puts(b, "true, false");
    else
        jr_buf_puts(b, row->expects ? row->expects : "text");
    if (row->nullable)
        jr_buf_puts(b, ", None");
    if (row->also_none)
        jr_buf_printf(b, ", %s (as None)", row->also_none);
}

static void put_default(struct jr_buf *b, const struct jr_cfg_row *row)
{
    if (row->def)
        jr_buf_puts(b, row->def);
    else
        jr_buf_puts(b, row->type == JR_CFG_TYPE_OPTSTR ? "off" : "unset");
}

/* "--x", "--x N", "--[no-]x", "--x [DIR]" */
static void put_synopsis(struct jr_buf *b, const struct jr_cfg_row *row)
{
    if (!row->flag)
        jr_buf_puts(b, row->env);
    else if (row->type == JR_CFG_TYPE_BOOL)
        jr_buf_printf(b, "--[no-]%s", row->flag);
    else if (row->type == JR_CFG_TYPE_OPTSTR)
        jr_buf_printf(b, "--%s [%s]", row->flag, row->metavar);
    else
        jr_buf_printf(b, "--%s %s", row->flag, row->metavar);
}

/* Words with a prefix and a separator: "a b" as "--a, --b". */
static void put_words(struct jr_buf *b, const char *words, const char *before, const char *after)
{
    for (const char *p = words; p && *p;) {
        size_t n = strcspn(p, " ");
        jr_buf_printf(b, "%s%.*s%s", before, (int)n, p, after);
        p += n;
        if (*p == ' ') {
            jr_buf_puts(b, ", ");
            p++;
        }
    }
}

static bool in_group(const struct jr_cfg_row *row, unsigned commands, enum jr_cfg_group group)
{
    return row->group == group && (row->commands & commands);
}

static bool group_is_empty(unsigned commands, enum jr_cfg_group group)
{
    for (int i = 0; i < JR_CFG_COUNT; i++)
        if (in_group(jr_config_row((enum jr_cfg_key)i), commands, group))
            return false;
    return true;
}

/* Text wrapped at WIDTH behind an indent. */
static void put_wrapped(struct jr_buf *b, const char *text, unsigned indent)
{
    size_t column = 0;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column == 0 || column + 1 + n > WIDTH - indent) {
            jr_buf_printf(b, "%s%*s", column ? "\n" : "", (int)indent, "");
            column = 0;
        } else {
            jr_buf_puts(b, " ");
            column++;
        }
        jr_buf_put(b, text, n);
        column += n;
        text += n;
        text += strspn(text, " ");
    }
    jr_buf_puts(b, "\n");
}

/* ---------------------------------------------------------------- --help */

void jr_docs_usage(struct jr_buf *b)
{
    unsigned n;
    const struct jr_command *commands = jr_cli_commands(&n);
    jr_buf_puts(b, "usage: jetrouter COMMAND [OPTION...]\n\n"
                   "Routes LLM requests to the worker that holds most of the prompt in its KV "
                   "cache and is least busy.\n\ncommands:\n");
    for (unsigned i = 0; i < n; i++)
        jr_buf_printf(b, "  %-10s %s\n", commands[i].name, commands[i].summary);
    jr_buf_puts(b, "  help       this text; 'jetrouter help COMMAND' lists its options\n"
                   "  version    the version (also --version)\n\n"
                   "Every option can be given in the environment; the command line wins.\n");
}

static void help_option(const struct jr_cfg_row *row, struct jr_buf *b)
{
    struct jr_buf line;
    jr_buf_puts(b, "  ");
    put_synopsis(b, row);
    jr_buf_puts(b, "\n");
    jr_buf_init(&line, 4096);
    jr_buf_puts(&line, row->help);
    if (row->type != JR_CFG_TYPE_BOOL && row->type != JR_CFG_TYPE_STR &&
        row->type != JR_CFG_TYPE_OPTSTR && row->type != JR_CFG_TYPE_LIST) {
        jr_buf_puts(&line, " (");
        put_range(&line, row);
        jr_buf_puts(&line, ")");
    }
    if (row->required)
        jr_buf_puts(&line, " [required]");
    else {
        jr_buf_puts(&line, " [default: ");
        put_default(&line, row);
        jr_buf_puts(&line, "]");
    }
    if (row->flag) {
        jr_buf_puts(&line, " [env: ");
        put_words(&line, row->env, "", "");
        jr_buf_puts(&line, "]");
    }
    put_wrapped(b, jr_buf_str(&line), 8);
    jr_buf_deinit(&line);
}

void jr_docs_help(const struct jr_command *command, struct jr_buf *b)
{
    jr_buf_printf(b, "usage: jetrouter %s [OPTION...]%s%s\n\n%s\nexample: %s\n", command->name,
                  command->args[0] ? " " : "", command->args, command->summary, command->example);
    for (int g = 0; g < JR_CFG_GROUP_COUNT; g++) {
        if (group_is_empty((unsigned)command->cmd, (enum jr_cfg_group)g))
            continue;
        jr_buf_printf(b, "\n%s:\n", jr_config_group_title((enum jr_cfg_group)g));
        for (int i = 0; i < JR_CFG_COUNT; i++) {
            const struct jr_cfg_row *row = jr_config_row((enum jr_cfg_key)i);
            if (in_group(row, (unsigned)command->cmd, (enum jr_cfg_group)g))
                help_option(row, b);
        }
    }
    jr_buf_puts(b, "\nAn option is given as --option value or --option=value.\n");
}

/* ---------------------------------------------------------------- docs/configuration.md */

static void put_commands(struct jr_buf *b, unsigned mask)
{
    if (mask == JR_CMD_ALL) {
        jr_buf_puts(b, "all");
        return;
    }
    const char *sep = "";
    for (unsigned bit = 1; bit <= JR_CMD_CTL; bit <<= 1)
        if (mask & bit) {
            jr_buf_printf(b, "%s%s", sep, jr_config_command_name((enum jr_cmd)bit));
            sep = ", ";
        }
}

static void config_option(const struct jr_cfg_row *row, struct jr_buf *b)
{
    jr_buf_puts(b, "| `");
    put_synopsis(b, row);
    jr_buf_puts(b, "`");
    if (row->aliases) {
        jr_buf_puts(b, "<br>also ");
        put_words(b, row->aliases, "`--", "`");
    }
    jr_buf_puts(b, " | ");
    put_words(b, row->env, "`", "`");
    jr_buf_puts(b, " | ");
    if (row->required)
        jr_buf_puts(b, "required");
    else
        put_default(b, row);
    jr_buf_puts(b, " | ");
    put_range(b, row);
    jr_buf_puts(b, " | ");
    put_commands(b, row->commands);
    jr_buf_printf(b, " | %s%s | %s |\n", row->help, row->secret ? "; never dumped or logged" : "",
                  row->since ? row->since : "0.1");
}

void jr_docs_config(struct jr_buf *b)
{
    jr_buf_puts(
        b,
        "# Configuration\n\n"
        "<!-- Made from src/app/config_table.h by `./dev docs`; do not edit. -->\n\n"
        "An option is given as `--option value` or `--option=value`, or in the environment; the "
        "command line wins over the\nenvironment, the environment over the default. Booleans are "
        "`--x` and `--no-x`; in the environment `true 1 yes on`\nand `false 0 no off`. An empty "
        "variable counts as unset. Where `None` is allowed it takes the value away. A\nrepeatable "
        "option also takes several values separated by commas. `--dump-config-to FILE` writes what "
        "is in effect,\nand where each value came from.\n\n"
        "Exit codes: 64 unknown option, missing value or word; 65 bad value; 78 options that do "
        "not go together; 69 a\nserver cannot be reached; 73 the port is taken; 77 NATS refused "
        "us; 80 NATS is not "
        "reachable; 81 NATS has no JetStream.\n");
    for (int g = 0; g < JR_CFG_GROUP_COUNT; g++) {
        if (group_is_empty(JR_CMD_ALL, (enum jr_cfg_group)g))
            continue;
        jr_buf_printf(b, "\n## %s\n\n", jr_config_group_title((enum jr_cfg_group)g));
        jr_buf_puts(b, "| option | environment | default | values | commands | meaning | since |\n"
                       "|---|---|---|---|---|---|---|\n");
        for (int i = 0; i < JR_CFG_COUNT; i++) {
            const struct jr_cfg_row *row = jr_config_row((enum jr_cfg_key)i);
            if (in_group(row, JR_CMD_ALL, (enum jr_cfg_group)g))
                config_option(row, b);
        }
    }
}

/* ---------------------------------------------------------------- docs/metrics.md */

void jr_docs_metrics(struct jr_buf *b)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    jr_buf_puts(b, "# Metrics\n\n"
                   "<!-- Made from src/app/metrics_table.h by `./dev docs`; do not edit. -->\n\n"
                   "`GET /metrics` answers in Prometheus' text format. A label set appears at its "
                   "first use. Each metric has a most\nnumber of label sets; samples beyond it are "
                   "dropped and counted in `jetrouter_metric_label_overflow_total`. What has a "
                   "worker's id goes with the worker; what has a\nmodel's name ten minutes after "
                   "its last worker and request, or at the second look where no set is left.\n\n"
                   "| metric | type | unit | labels | most sets | meaning |\n"
                   "|---|---|---|---|---|---|\n");
    for (int i = 0; i < JR_METRIC_COUNT; i++) {
        const struct jr_metric_row *row = jr_metric_row((enum jr_metric_key)i);
        jr_buf_printf(b, "| `%s` | %s | %s | ", row->name, types[row->type], row->unit);
        put_words(b, row->labels, "`", "`");
        jr_buf_printf(b, " | %u | %s |\n", row->sets_max, row->help);
    }
}

/* ---------------------------------------------------------------- docs/errors.md */

static void put_code(struct jr_buf *b, const char *text)
{
    if (text)
        jr_buf_printf(b, " `%s` |", text);
    else
        jr_buf_puts(b, " null |");
}

static void put_example(struct jr_buf *b)
{
    const struct jr_error_row *row = jr_error_row(JR_ERROR_MODEL_NOT_FOUND);
    const struct jr_openai_failure f = {
        .status = row->status, .param = row->param, .code = row->code, .message = row->message};
    jr_buf_puts(b, "```json\n");
    jr_openai_error_write(b, &f);
    jr_buf_puts(b, "\n```\n\n");
}

void jr_docs_errors(struct jr_buf *b)
{
    jr_buf_puts(
        b, "# Errors\n\n"
           "<!-- Made from src/app/frontend/errors.h by `./dev docs`; do not edit. -->\n\n"
           "Every error answer of the frontend has two shapes in one body: Dynamo's "
           "(`message`, `type`: the reason phrase, `code`: the status)\nand OpenAI's under "
           "`error`. What a worker answers, errors too, is relayed as it is; but one of "
           "`--retry-statuses` (502, 503, 504) only\nwhen no other worker has a better answer, "
           "or none may be asked: it is pinned, or `--migration-limit` have been.\n\n");
    put_example(b);
    jr_buf_puts(b,
                "| status | `type` | `error.type` | `error.code` | `error.param` | `Retry-After` "
                "| `message`, unless there are better words | when |\n"
                "|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < JR_ERROR_COUNT; i++) {
        const struct jr_error_row *row = jr_error_row((enum jr_error)i);
        jr_buf_printf(b, "| %d | %s | `%s` |", row->status, jr_openai_reason(row->status),
                      jr_openai_error_type(row->status));
        put_code(b, row->code);
        put_code(b, row->param);
        if (row->retry_s)
            jr_buf_printf(b, " %u", row->retry_s);
        jr_buf_puts(b, " |");
        jr_buf_printf(b, " %s | %s |\n", row->message, row->when);
    }
    jr_buf_puts(b,
                "\nIn a stream that has begun an error is an event: `event: error`, the message as "
                "a comment (`: …`), the body above as\n`data`; then the connection is cut, without "
                "`[DONE]`.\n\n"
                "What is no HTTP/1.1, or none that all would read alike, is answered by the server "
                "before it is a request, in the same\nshapes, and the connection ends: 400 "
                "malformed, 405 a method nobody knows, 408 head or body too slow, 413 body "
                "above\n`--http-body-limit-mb`, 417 an expectation other than 100-continue, 431 "
                "head too large, 505 another version.\n503 with `Retry-After` and the code "
                "`overloaded`: the bodies under way have taken up `--http-bodies-max-mb`.\n\n"
                "`/busy_threshold` has Dynamo's own shape, `{\"error\": …}`.\n");
}

/* ---------------------------------------------------------------- docs/jetrouter.1 */

/* roff: '-' as an option's dash, and no line may begin with '.' or '\''. */
static void put_roff(struct jr_buf *b, const char *text)
{
    if (*text == '.' || *text == '\'')
        jr_buf_puts(b, "\\&");
    for (; *text; text++)
        if (*text == '-')
            jr_buf_puts(b, "\\-");
        else if (*text == '\\')
            jr_buf_puts(b, "\\e");
        else
            jr_buf_put(b, text, 1);
}

static void man_option(const struct jr_cfg_row *row, struct jr_buf *b)
{
    struct jr_buf text;
    jr_buf_init(&text, 4096);
    put_synopsis(&text, row);
    jr_buf_puts(b, ".TP\n.B ");
    put_roff(b, jr_buf_str(&text));
    jr_buf_clear(&text);
    jr_buf_printf(&text, "%c%s. Values: ", toupper((unsigned char)row->help[0]), row->help + 1);
    put_range(&text, row);
    jr_buf_puts(&text, row->required ? ". Required" : ". Default: ");
    if (!row->required)
        put_default(&text, row);
    jr_buf_puts(&text, ". Commands: ");
    put_commands(&text, row->commands);
    if (row->flag) {
        jr_buf_puts(&text, ". Environment: ");
        put_words(&text, row->env, "", "");
    }
    jr_buf_puts(&text, ".");
    jr_buf_puts(b, "\n");
    put_roff(b, jr_buf_str(&text));
    jr_buf_puts(b, "\n");
    jr_buf_deinit(&text);
}

static void man_commands(struct jr_buf *b)
{
    unsigned n;
    const struct jr_command *commands = jr_cli_commands(&n);
    jr_buf_puts(b, ".SH COMMANDS\n");
    for (unsigned i = 0; i < n; i++) {
        jr_buf_printf(b, ".TP\n.B %s%s%s\n", commands[i].name, commands[i].args[0] ? " " : "",
                      commands[i].args);
        put_roff(b, commands[i].summary);
        jr_buf_puts(b, ". Example:\n.br\n");
        put_roff(b, commands[i].example);
        jr_buf_puts(b, "\n");
    }
}

void jr_docs_man(struct jr_buf *b)
{
    jr_buf_puts(b, ".TH JETROUTER 1 \"\" \"jetrouter " JETROUTER_VERSION "\" \"User Commands\"\n"
                   ".SH NAME\njetrouter \\- KV\\-cache\\-aware request router for LLM inference\n"
                   ".SH SYNOPSIS\n.B jetrouter\n.I COMMAND\n[\\fIOPTION\\fR...]\n"
                   ".SH DESCRIPTION\n"
                   "Routes LLM requests to the inference worker that already holds most of the "
                   "prompt in its KV cache and is least busy, as highly available replicas over "
                   "NATS JetStream.\n");
    man_commands(b);
    jr_buf_puts(b, ".SH OPTIONS\nThe command line wins over the environment.\n");
    for (int g = 0; g < JR_CFG_GROUP_COUNT; g++) {
        jr_buf_puts(b, ".SS ");
        put_roff(b, jr_config_group_title((enum jr_cfg_group)g));
        jr_buf_puts(b, "\n");
        for (int i = 0; i < JR_CFG_COUNT; i++) {
            const struct jr_cfg_row *row = jr_config_row((enum jr_cfg_key)i);
            if (in_group(row, JR_CMD_ALL, (enum jr_cfg_group)g))
                man_option(row, b);
        }
    }
    jr_buf_puts(b, ".SH EXIT STATUS\n0 success; 64 usage; 65 bad value; 69 a server cannot be "
                   "reached; 73 address in use; 78 options that do not go together; 77 NATS "
                   "refused us; 80 NATS is "
                   "not reachable; 81 NATS has no JetStream.\n");
}
