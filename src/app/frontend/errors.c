/* SPDX-License-Identifier: Apache-2.0 */
#include "app/frontend/errors.h"

#include "base/err.h"

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

enum jr_error jr_error_of_refusal(int err, bool has_pin)
{
    if (err == JR_ENOTFOUND && has_pin)
        return JR_ERROR_PINNED_AWAY;
    return err == JR_EBUSY      ? JR_ERROR_OVERLOADED
           : err == JR_ETIMEOUT ? JR_ERROR_TIMEOUT
           : err == JR_EINVAL   ? JR_ERROR_BAD_ROUTE
                                : JR_ERROR_NO_WORKER;
}
