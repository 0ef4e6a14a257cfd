/* SPDX-License-Identifier: Apache-2.0 */
/* err: the error codes of the whole program and the text that goes with them.
 *
 * Every fallible function returns int: 0 or a negative JR_E… code. The detail of one failure is
 * carried in a struct jr_errmsg owned by the caller and wrapped once per layer. Any thread. */
#ifndef JR_BASE_ERR_H
#define JR_BASE_ERR_H

#include <stddef.h>

/* X(name, exit code of the process when this error ends it, text, hint: what to do) */
#define JR_ERR_TABLE(X)                                                                            \
    X(EINVAL, 65, "invalid value", "correct the value named in the message")                       \
    X(EUSAGE, 64, "usage error", "see --help")                                                     \
    X(ECONFIG, 78, "invalid configuration", "see docs/configuration.md")                           \
    X(ENOMEM, 71, "out of memory", "raise the memory limit of the process")                        \
    X(ELIMIT, 71, "a limit was reached", "see the limit named in the message")                     \
    X(ENOTFOUND, 66, "not found", "check the name")                                                \
    X(EEXIST, 73, "exists already", "choose another name")                                         \
    X(EAGAIN, 75, "try again", "the operation would have to wait")                                 \
    X(ETIMEOUT, 75, "timed out", "check that the peer is up and reachable")                        \
    X(ECLOSED, 69, "closed", "the object is closing")                                              \
    X(ECANCELED, 69, "cancelled", "the caller gave up")                                            \
    X(EPROTO, 76, "malformed data", "check what the peer sends")                                   \
    X(ETRUNC, 76, "truncated data", "more bytes are needed")                                       \
    X(EVERSION, 76, "unknown format or rule version", "upgrade this replica")                      \
    X(ECORRUPT, 76, "data does not match its hash", "restore it or let it be written again")       \
    X(ECONN, 69, "connection failed", "check host, port and that the server runs")                 \
    X(EIO, 74, "input or output failed", "see the system's message")                               \
    X(EADDRINUSE, 73, "address in use", "choose another port or stop the other process")           \
    X(ENONATS, 80, "NATS is not reachable",                                                        \
      "start nats-server -js, or name it with --nats-server")                                      \
    X(ENOJETSTREAM, 81, "the NATS server has no JetStream", "start nats-server with -js")          \
    X(EAUTH, 77, "the NATS server refused us",                                                     \
      "check the NATS_AUTH_* variables, the --nats-tls-* files and what the user is allowed")      \
    X(ECONFLICT, 75, "somebody else changed it first", "read it again")                            \
    X(EHISTORY, 76, "the stream has a different history", "see docs/protocol.md")                  \
    X(EGAP, 76, "what is needed has left the stream", "restore from a snapshot")                   \
    X(ENOWORKER, 69, "no worker is available", "start a worker or wait for one to register")       \
    X(EBUSY, 75, "all workers are busy", "retry later")                                            \
    X(EUNSUPPORTED, 69, "not supported", "see the documentation")                                  \
    X(ECHILD, 82, "a child process failed", "see its output")                                      \
    X(EINTERNAL, 70, "internal error", "report it with the log")

enum jr_err_index {
    JR_ERR_INDEX_OK = 0,
#define X(name, exit_code, text, hint) JR_ERR_INDEX_##name,
    JR_ERR_TABLE(X)
#undef X
        JR_ERR_COUNT
};

enum jr_err {
    JR_OK = 0,
#define X(name, exit_code, text, hint) JR_##name = -JR_ERR_INDEX_##name,
    JR_ERR_TABLE(X)
#undef X
};

/* Name ("ENOTFOUND"), text, hint and process exit code of a code; unknown codes read as EINTERNAL. */
const char *jr_err_name(int err);
const char *jr_err_text(int err);
const char *jr_err_hint(int err);
int jr_err_exit_code(int err);

/* One failure in words. Zero-initialised is empty. */
struct jr_errmsg {
    char text[256];
};

/* Set the message; returns err, so that `return jr_errmsg_set(e, JR_EINVAL, "…")` reads well.
 * e may be NULL. */
int jr_errmsg_set(struct jr_errmsg *e, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Put "prefix: " before the message; an empty message becomes "prefix: <text of err>". */
int jr_errmsg_wrap(struct jr_errmsg *e, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Clang's analyser looks at one file at a time; here it sees that both return err. */
#ifdef __clang_analyzer__
static inline int jr_errmsg_returns(int ret, int err)
{
    (void)ret;
    return err;
}
#define jr_errmsg_set(e, err, ...)  jr_errmsg_returns(jr_errmsg_set(e, err, __VA_ARGS__), err)
#define jr_errmsg_wrap(e, err, ...) jr_errmsg_returns(jr_errmsg_wrap(e, err, __VA_ARGS__), err)
#endif

#define JR_MUST_CHECK __attribute__((warn_unused_result))

#endif
