/* SPDX-License-Identifier: Apache-2.0 */
#include "app/docs_complete.h"
#include "app/cli.h"
#include "app/ctl/ctl.h"
#include <string.h>

/* ---------------------------------------------------------------- what both shells need */

static const struct jr_cfg_row *row_of(const struct jr_command *command, int i)
{
    const struct jr_cfg_row *row = jr_config_row((enum jr_cfg_key)i);
    return row->flag && (row->commands & (unsigned)command->cmd) ? row : NULL;
}

static bool takes_dir(const struct jr_cfg_row *row)
{
    return row->metavar && strcmp(row->metavar, "DIR") == 0;
}

static bool takes_file(const struct jr_cfg_row *row)
{
    return row->metavar && strcmp(row->metavar, "FILE") == 0;
}

static void put_actions(struct jr_buf *b)
{
    const char *name;
    for (unsigned i = 0; (name = jr_ctl_action_name(i)); i++)
        jr_buf_printf(b, "%s%s", i ? " " : "", name);
}

/* ---------------------------------------------------------------- bash */

static void bash_options(struct jr_buf *b, const struct jr_command *commands, unsigned n)
{
    jr_buf_puts(b, "_jetrouter_options() {\n    case $1 in\n");
    for (unsigned c = 0; c < n; c++) {
        jr_buf_printf(b, "    %s)\n        echo '--help", commands[c].name);
        for (int i = 0; i < JR_CFG_COUNT; i++) {
            const struct jr_cfg_row *row = row_of(&commands[c], i);
            if (row)
                jr_buf_printf(b, "\n            --%s", row->flag);
            if (row && row->type == JR_CFG_TYPE_BOOL)
                jr_buf_printf(b, " --no-%s", row->flag);
        }
        jr_buf_puts(b, "'\n        ;;\n");
    }
    jr_buf_puts(b, "    esac\n}\n\n");
}

/* Fills COMPREPLY with what may stand behind an option; 1 when it takes no value. */
static void bash_values(struct jr_buf *b, const struct jr_command *commands, unsigned n)
{
    jr_buf_puts(b, "_jetrouter_values() {\n    case \"$1 $2\" in\n");
    for (unsigned c = 0; c < n; c++)
        for (int i = 0; i < JR_CFG_COUNT; i++) {
            const struct jr_cfg_row *row = row_of(&commands[c], i);
            if (!row || row->type == JR_CFG_TYPE_BOOL)
                continue;
            jr_buf_printf(b, "    '%s --%s') ", commands[c].name, row->flag);
            if (row->choices)
                jr_buf_printf(b, "mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$3\")",
                              row->choices);
            else if (takes_dir(row))
                jr_buf_puts(b, "mapfile -t COMPREPLY < <(compgen -d -- \"$3\")");
            else if (takes_file(row))
                jr_buf_puts(b, "mapfile -t COMPREPLY < <(compgen -f -- \"$3\")");
            else
                jr_buf_puts(b, "COMPREPLY=()");
            jr_buf_puts(b, " ;;\n");
        }
    jr_buf_puts(b, "    *) return 1 ;;\n    esac\n}\n\n");
}

void jr_docs_bash(struct jr_buf *b)
{
    unsigned n;
    const struct jr_command *commands = jr_cli_commands(&n);
    jr_buf_puts(
        b,
        "# Completion of jetrouter for bash. Made from src/app/config_table.h by `./dev docs`; do "
        "not edit.\n\n");
    bash_options(b, commands, n);
    bash_values(b, commands, n);
    jr_buf_puts(b, "_jetrouter() {\n"
                   "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} "
                   "command=${COMP_WORDS[1]} words\n"
                   "    COMPREPLY=()\n"
                   "    # bash takes --option=value apart at the sign.\n"
                   "    if [ \"$cur\" = = ]; then\n"
                   "        cur=''\n"
                   "    elif [ \"$prev\" = = ]; then\n"
                   "        prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
                   "    fi\n"
                   "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
                   "        words='help version");
    for (unsigned c = 0; c < n; c++)
        jr_buf_printf(b, " %s", commands[c].name);
    jr_buf_puts(b, "'\n"
                   "    elif _jetrouter_values \"$command\" \"$prev\" \"$cur\"; then\n"
                   "        return\n"
                   "    elif [ \"$command\" = ctl ] && [[ $cur != -* ]]; then\n"
                   "        words='");
    put_actions(b);
    jr_buf_puts(b, "'\n"
                   "    else\n"
                   "        words=$(_jetrouter_options \"$command\")\n"
                   "    fi\n"
                   "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
                   "}\n"
                   "complete -o filenames -F _jetrouter jetrouter\n");
}

/* ---------------------------------------------------------------- zsh */

/* Within a word in single quotes that _arguments reads: these signs mean something there. */
static void put_spec(struct jr_buf *b, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            jr_buf_puts(b, "'\\'");
        else if (strchr("[]:\\", *text))
            jr_buf_puts(b, "\\");
        jr_buf_put(b, text, 1);
    }
}

static void zsh_option(struct jr_buf *b, const struct jr_cfg_row *row, const char *before,
                       const char *after)
{
    jr_buf_printf(b, " \\\n        '%s--%s%s[", before, row->flag, after);
    put_spec(b, row->help);
    jr_buf_puts(b, "]");
}

static void zsh_bool(struct jr_buf *b, const struct jr_cfg_row *row)
{
    zsh_option(b, row, "", "");
    jr_buf_printf(b, "' \\\n        '--no-%s[not: ", row->flag);
    put_spec(b, row->help);
    jr_buf_puts(b, "]'");
}

static void zsh_row(struct jr_buf *b, const struct jr_cfg_row *row)
{
    if (row->type == JR_CFG_TYPE_BOOL) {
        zsh_bool(b, row);
        return;
    }
    const bool optional = row->type == JR_CFG_TYPE_OPTSTR;
    zsh_option(b, row, row->type == JR_CFG_TYPE_LIST ? "*" : "", optional ? "=-" : "=");
    jr_buf_puts(b, optional ? "::" : ":");
    put_spec(b, row->metavar);
    if (row->choices)
        jr_buf_printf(b, ":(%s)'", row->choices);
    else if (takes_dir(row))
        jr_buf_puts(b, ":_files -/'");
    else
        jr_buf_puts(b, takes_file(row) ? ":_files'" : ": '");
}

static void zsh_command(struct jr_buf *b, const struct jr_command *command)
{
    jr_buf_printf(b, "    %s)\n        _arguments '--help[its options]'", command->name);
    for (int i = 0; i < JR_CFG_COUNT; i++) {
        const struct jr_cfg_row *row = row_of(command, i);
        if (row)
            zsh_row(b, row);
    }
    if (command->cmd == JR_CMD_CTL) {
        jr_buf_puts(b, " \\\n        '1:action:(");
        put_actions(b);
        jr_buf_puts(b, ")'");
    }
    jr_buf_puts(b, "\n        ;;\n");
}

void jr_docs_zsh(struct jr_buf *b)
{
    unsigned n;
    const struct jr_command *commands = jr_cli_commands(&n);
    jr_buf_puts(
        b,
        "#compdef jetrouter\n"
        "# Completion of jetrouter for zsh. Made from src/app/config_table.h by `./dev docs`; do "
        "not edit.\n\n"
        "_jetrouter() {\n"
        "    local -a commands=(\n"
        "        'help:usage, or the options of a command'\n"
        "        'version:the version'\n");
    for (unsigned c = 0; c < n; c++) {
        jr_buf_printf(b, "        '%s:", commands[c].name);
        put_spec(b, commands[c].summary);
        jr_buf_puts(b, "'\n");
    }
    jr_buf_puts(b, "    )\n"
                   "    if ((CURRENT == 2)); then\n"
                   "        _describe command commands\n"
                   "        return\n"
                   "    fi\n"
                   "    local command=$words[2]\n"
                   "    shift words\n"
                   "    ((CURRENT--))\n"
                   "    case $command in\n");
    for (unsigned c = 0; c < n; c++)
        zsh_command(b, &commands[c]);
    jr_buf_puts(b, "    esac\n}\n\n"
                   "if [ \"$funcstack[1]\" = _jetrouter ]; then\n"
                   "    _jetrouter \"$@\"\n"
                   "else\n"
                   "    compdef _jetrouter jetrouter\n"
                   "fi\n");
}

/* ---------------------------------------------------------------- options as JSON */

static void put_text(struct jr_buf *b, const char *name, const char *text)
{
    jr_buf_printf(b, ",\"%s\":", name);
    if (text)
        jr_buf_json_str(b, text);
    else
        jr_buf_puts(b, "null");
}

/* Words separated by spaces, as an array. */
static void put_array(struct jr_buf *b, const char *name, const char *words)
{
    jr_buf_printf(b, ",\"%s\":[", name);
    for (const char *p = words; p && *p;) {
        const size_t n = strcspn(p, " ");
        jr_buf_printf(b, "%s\"%.*s\"", p == words ? "" : ",", (int)n, p);
        p += n + (p[n] == ' ');
    }
    jr_buf_puts(b, "]");
}

static void put_commands(struct jr_buf *b, const char *name, unsigned mask)
{
    const char *sep = "";
    jr_buf_printf(b, ",\"%s\":[", name);
    for (unsigned bit = 1; bit <= JR_CMD_CTL; bit <<= 1)
        if (mask & bit) {
            jr_buf_printf(b, "%s\"%s\"", sep, jr_config_command_name((enum jr_cmd)bit));
            sep = ",";
        }
    jr_buf_puts(b, "]");
}

static void put_row(struct jr_buf *b, const struct jr_cfg_row *row)
{
    jr_buf_puts(b, "{\"type\":");
    jr_buf_json_str(b, jr_config_type_name(row->type));
    put_text(b, "flag", row->flag);
    put_array(b, "env", row->env);
    put_array(b, "aliases", row->aliases);
    put_commands(b, "commands", row->commands);
    put_commands(b, "required", row->required);
    put_text(b, "default", row->def);
    put_text(b, "metavar", row->metavar);
    put_array(b, "choices", row->choices);
    if (jr_config_is_number(row->type)) {
        jr_buf_puts(b, ",\"min\":");
        jr_config_put_number(b, row->min);
        jr_buf_puts(b, ",\"max\":");
        jr_config_put_number(b, row->max);
    }
    jr_buf_printf(b, ",\"nullable\":%s", row->nullable ? "true" : "false");
    jr_buf_printf(b, ",\"secret\":%s", row->secret ? "true" : "false");
    put_text(b, "group", jr_config_group_title(row->group));
    put_text(b, "help", row->help);
    jr_buf_puts(b, "}");
}

void jr_docs_options(struct jr_buf *b)
{
    jr_buf_puts(b, "[");
    for (int i = 0; i < JR_CFG_COUNT; i++) {
        jr_buf_puts(b, i ? ",\n" : "\n");
        put_row(b, jr_config_row((enum jr_cfg_key)i));
    }
    jr_buf_puts(b, "\n]\n");
}
