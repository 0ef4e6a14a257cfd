/* SPDX-License-Identifier: Apache-2.0 */
/* log_sink: where log lines and failed assertions go: stderr, one write(2) a line, so that lines of
 * several threads and processes do not mix. */
#ifndef JR_APP_LOG_SINK_H
#define JR_APP_LOG_SINK_H

#include "app/config.h"

/* Sets level, format, clock and writer from --log-level and --log-format. Main thread, before any
 * other is started. */
void jr_log_sink_configure(const struct jr_config *cfg);

#endif
