/* SPDX-License-Identifier: Apache-2.0 */
/* docs_complete: completions of the command line for bash and zsh, and the options as JSON for other
 * programs (helm/options.py makes the chart's schema of it). All made from the option table;
 * tests/arch/test_docs_drift.sh compares the checked-in files with these. */
#ifndef JR_APP_DOCS_COMPLETE_H
#define JR_APP_DOCS_COMPLETE_H

#include "base/buf.h"

void jr_docs_bash(struct jr_buf *b);    /* docs/completions/jetrouter.bash */
void jr_docs_zsh(struct jr_buf *b);     /* docs/completions/_jetrouter */
void jr_docs_options(struct jr_buf *b); /* an array, a row each */

#endif
