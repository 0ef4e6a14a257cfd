/* SPDX-License-Identifier: Apache-2.0 */
/* docs: texts made from the tables: --help, docs/configuration.md, docs/metrics.md, docs/errors.md
 * and the man page. tests/arch/test_docs_drift.sh compares the checked-in files with these. */
#ifndef JR_APP_DOCS_H
#define JR_APP_DOCS_H

#include "app/cli.h"
#include "base/buf.h"

void jr_docs_usage(struct jr_buf *b);                                  /* jetrouter help */
void jr_docs_help(const struct jr_command *command, struct jr_buf *b); /* … COMMAND --help */
void jr_docs_config(struct jr_buf *b);                                 /* configuration.md */
void jr_docs_metrics(struct jr_buf *b);                                /* metrics.md */
void jr_docs_errors(struct jr_buf *b);                                 /* errors.md */
void jr_docs_man(struct jr_buf *b);                                    /* jetrouter.1 */

#endif
