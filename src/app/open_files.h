/* SPDX-License-Identifier: Apache-2.0 */
/* open_files: how many this process may have. */
#ifndef JR_APP_OPEN_FILES_H
#define JR_APP_OPEN_FILES_H

#include <stdint.h>

/* Raises the limit as far as it may without privileges: each connection is one. Returns what it is
 * then. */
uint64_t jr_open_files_raise(void);

#endif
