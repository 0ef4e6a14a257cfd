/* SPDX-License-Identifier: Apache-2.0 */
/* cli: the command line of the one binary: finds the command, loads its options, sets logging up,
 * runs it and turns its end into an exit code. Main thread. */
#ifndef JR_APP_CLI_H
#define JR_APP_CLI_H

#include "app/config.h"

/* What every command provides, as jr_<name>_main in src/app/<name>/<name>.h, for example
 *     int jr_frontend_main(const struct jr_config *cfg, struct jr_errmsg *e);
 * Returns 0; a negative JR_E… with words in e, which cli prints as one line on stderr
 * ("jetrouter frontend: <message>. <hint>") and turns into jr_err_exit_code; or a positive process
 * exit code when it has told why by itself. SIGPIPE is ignored, the log is configured. */
typedef int jr_command_fn(const struct jr_config *cfg, struct jr_errmsg *e);

struct jr_command {
    const char *name;
    const char *args;    /* words behind the options in the usage line; "" for none */
    const char *summary; /* one line */
    const char *example; /* one command line */
    jr_command_fn *main;
    enum jr_cmd cmd;
    unsigned args_max;
};

/* All commands, in the order of `jetrouter help`. */
const struct jr_command *jr_cli_commands(unsigned *ret_n);

/* The whole program; returns the process exit code. */
int jr_cli_main(int argc, char **argv);

#endif
