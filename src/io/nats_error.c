/* SPDX-License-Identifier: Apache-2.0 */
#include "io/nats_priv.h"

static int error_of_code(int code)
{
    switch (code) {
    case JSStreamNotFoundErr:
    case JSNoMessageFoundErr:
    case JSConsumerNotFoundErr:
    case JSSequenceNotFoundErr:
        return JR_ENOTFOUND;
    case JSStreamWrongLastMsgIDErr:
    case JSStreamWrongLastSequenceErr:
    case 10164: /* the same since 2.11, without the sequence in its text */
        return JR_ECONFLICT;
    case JSStreamNameExistErr:
    case JSStreamSubjectOverlapErr: /* also with the same stream, while another makes it */
        return JR_EEXIST;
    case JSNotEnabledErr:
    case JSNotEnabledForAccountErr:
        return JR_ENOJETSTREAM;
    case JSStreamStoreFailedErr: /* full, with discard new */
    case JSAccountResourcesExceededErr:
    case JSInsufficientResourcesErr:
    case JSMemoryResourcesExceededErr:
    case JSStorageResourcesExceededErr:
    case JSClusterNotAvailErr:
    case 10167: /* too many requests: the ingest queue of 2.11 and later */
        return JR_ELIMIT;
    case JSStreamMessageExceedsMaximumErr:
        return JR_EINVAL;
    default:
        return JR_EIO;
    }
}

int jr_js_error(int code, const char *description, struct jr_errmsg *e, const char *what)
{
    return jr_errmsg_set(e, error_of_code(code), "%s: %s (JetStream error %d)", what,
                         description != NULL ? description : "refused", code);
}

static int error_of_status(natsStatus s)
{
    switch (s) {
    case NATS_OK:
        return 0;
    case NATS_TIMEOUT:
        return JR_ETIMEOUT;
    case NATS_NOT_FOUND:
        return JR_ENOTFOUND;
    case NATS_NO_RESPONDERS:
        return JR_ENOJETSTREAM;
    case NATS_NO_SERVER:
    case NATS_CONNECTION_CLOSED:
    case NATS_CONNECTION_DISCONNECTED:
    case NATS_STALE_CONNECTION:
    case NATS_INSUFFICIENT_BUFFER: /* nothing is buffered while disconnected */
    case NATS_NOT_YET_CONNECTED:
        return JR_ENONATS;
    case NATS_CONNECTION_AUTH_FAILED:
    case NATS_NOT_PERMITTED:
    case NATS_SSL_ERROR:
    case NATS_SECURE_CONNECTION_WANTED:
    case NATS_SECURE_CONNECTION_REQUIRED:
        return JR_EAUTH;
    case NATS_INVALID_ARG:
    case NATS_INVALID_SUBJECT:
    case NATS_MAX_PAYLOAD:
        return JR_EINVAL;
    case NATS_NO_MEMORY:
        return JR_ENOMEM;
    default:
        return JR_EIO;
    }
}

int(jr_nats_error)(natsStatus s, int code, struct jr_errmsg *e, const char *what)
{
    const char *last;

    if (s == NATS_OK)
        return 0;
    last = nats_GetLastError(NULL);
    if (last == NULL || last[0] == '\0')
        last = natsStatus_GetText(s);
    if (code != 0)
        return jr_js_error(code, last, e, what);
    return jr_errmsg_set(e, error_of_status(s), "%s: %s", what, last);
}
