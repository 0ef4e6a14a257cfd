/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/errors.h"

#include <stddef.h>

static const struct jr_error_row rows[JR_ERROR_COUNT] = {
#define X(key, ...) {__VA_ARGS__},
    JR_ERROR_TABLE(X)
#undef X
};

const struct jr_error_row *jr_error_row(enum jr_error error)
{
    return &rows[error];
}
