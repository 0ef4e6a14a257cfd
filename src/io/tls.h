/* SPDX-License-Identifier: Apache-2.0 */
/* tls: one TLS session as bytes in and bytes out. No socket, no clock: whoever has the connection
 * feeds what came from the wire and sends what is to go there.
 *
 *      wire ── jr_tls_feed ──► [in]  ─┐           ┌─ jr_tls_read ──► plaintext
 *                                     ├─ session ─┤
 *      wire ◄── jr_tls_out ─── [out] ─┘           └◄ jr_tls_write ── plaintext
 *
 * The handshake happens within jr_tls_read and jr_tls_handshake; after each call `out` may hold
 * bytes. TLS 1.2 and 1.3, ALPN http/1.1, stateless session tickets, no renegotiation. A context and
 * its sessions belong to one thread. */
#ifndef JR_IO_TLS_H
#define JR_IO_TLS_H

#include "base/buf.h"

#include <time.h>

struct jr_tls_context; /* certificates and rules; sessions outlive it */
struct jr_tls;

/* What a server shows. Both are PEM files; the first may hold a chain, the leaf first. JR_ECONFIG,
 * with words that name the file, when one cannot be used or they do not belong together. */
JR_MUST_CHECK int jr_tls_server_context(const char *cert_path, const char *key_path,
                                        struct jr_errmsg *e, struct jr_tls_context **ret);
/* Whom a client believes: the certificates in ca_path (PEM), or the system's when it is NULL;
 * with insecure anybody. JR_ECONFIG with words. */
JR_MUST_CHECK int jr_tls_client_context(const char *ca_path, bool insecure, struct jr_errmsg *e,
                                        struct jr_tls_context **ret);
void jr_tls_context_destroy(struct jr_tls_context *ctx); /* NULL is fine */
/* When the server's certificate ends, in seconds of the epoch; 0 for a client's context. */
time_t jr_tls_context_not_after(const struct jr_tls_context *ctx);

/* A server's session, name NULL; or a client's, to the peer of that name or address, which is what
 * its certificate must be for. */
struct jr_tls *jr_tls_create(struct jr_tls_context *ctx, const char *name);
void jr_tls_destroy(struct jr_tls *t); /* NULL is fine */

/* Copies n bytes from the wire. JR_ELIMIT when more than JR_TLS_IN_MAX wait to be read. */
JR_MUST_CHECK int jr_tls_feed(struct jr_tls *t, const void *p, size_t n);
/* Something that was fed has not been read yet. */
bool jr_tls_has_input(const struct jr_tls *t);
/* Begins (a client must) or goes on: 1 when it is over, 0 when more bytes are needed, or as
 * jr_tls_read. */
JR_MUST_CHECK int jr_tls_handshake(struct jr_tls *t);
bool jr_tls_ready(const struct jr_tls *t); /* the handshake is over */
/* Plaintext, at most cap > 0 bytes: their count; 0 when more must be fed first; JR_ECLOSED the peer
 * said that this is the end; JR_EPROTO no valid TLS, or the peer is not who it should be. */
JR_MUST_CHECK int jr_tls_read(struct jr_tls *t, void *p, size_t cap);
/* Encrypts all n bytes into `out`. JR_EPROTO before the end of the handshake and after a failure. */
JR_MUST_CHECK int jr_tls_write(struct jr_tls *t, const void *p, size_t n);
/* Says that this is the end, so that the peer can tell it from a cut. */
void jr_tls_close(struct jr_tls *t);
/* What is to be sent; the caller clears it (jr_tls_sent) once it has gone or been copied. */
const struct jr_buf *jr_tls_out(const struct jr_tls *t);
void jr_tls_sent(struct jr_tls *t);
/* Why the last call failed, in words; "" before any did. */
const char *jr_tls_words(const struct jr_tls *t);

#endif
