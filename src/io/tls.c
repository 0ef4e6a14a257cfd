/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tls.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <string.h>

/* Of TLS 1.2: forward secret and authenticated. TLS 1.3 has no others. */
#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20"

static const unsigned char alpn[] = "\x08http/1.1"; /* as on the wire: length, name */
#define ALPN_N (sizeof alpn - 1)

struct jr_tls_context {
    SSL_CTX *ssl;
    bool is_client, insecure;
    time_t not_after;
};

struct jr_tls {
    SSL *ssl;
    struct jr_buf in, out;
    size_t in_at;
    bool failed;
    char words[160];
};

/* ---- what OpenSSL reads from and writes to: the session's two buffers ---- */

static BIO_METHOD *bio_method;

static int bio_read(BIO *bio, char *p, size_t cap, size_t *ret_n)
{
    struct jr_tls *t = BIO_get_data(bio);
    const size_t have = t->in.n - t->in_at, n = have < cap ? have : cap;

    BIO_clear_retry_flags(bio);
    if (n == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(p, t->in.p + t->in_at, n);
    t->in_at += n;
    *ret_n = n;
    return 1;
}

static int bio_write(BIO *bio, const char *p, size_t n, size_t *ret_n)
{
    struct jr_tls *t = BIO_get_data(bio);

    jr_buf_put(&t->out, p, n);
    *ret_n = n;
    return 1;
}

static long bio_ctrl(BIO *bio, int cmd, long larg, void *parg)
{
    (void)bio;
    (void)larg;
    (void)parg;
    return cmd == BIO_CTRL_FLUSH;
}

/* One for all threads, never given back. */
static void make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "jetrouter");
    JR_ASSERT(bio_method != NULL);
    BIO_meth_set_read_ex(bio_method, bio_read);
    BIO_meth_set_write_ex(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

/* ---- words ---- */

/* The first error is the cause, those behind it only pass it on. */
static const char *first_reason(void)
{
    const unsigned long code = ERR_peek_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);

    if (code != 0 && ERR_SYSTEM_ERROR(code))
        reason = strerror(ERR_GET_REASON(code));
    return reason != NULL ? reason : "unknown reason";
}

static int cannot(struct jr_errmsg *e, const char *what, const char *path)
{
    const int rv = jr_errmsg_set(e, JR_ECONFIG, "%s %.100s: %s", what, path, first_reason());

    ERR_clear_error();
    return rv;
}

/* ---- contexts ---- */

static int select_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_n,
                       const unsigned char *offered, unsigned n, void *ctx)
{
    (void)ssl;
    (void)ctx;
    for (unsigned at = 0; at < n; at += 1u + offered[at]) {
        if (n - at >= ALPN_N && memcmp(offered + at, alpn, ALPN_N) == 0) {
            *ret = offered + at + 1;
            *ret_n = ALPN_N - 1;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static struct jr_tls_context *context_create(const SSL_METHOD *method)
{
    struct jr_tls_context *ctx = jr_xalloc(sizeof *ctx);

    ctx->ssl = SSL_CTX_new(method);
    JR_ASSERT(ctx->ssl != NULL);
    SSL_CTX_set_min_proto_version(ctx->ssl, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx->ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Tickets carry the state; a table of sessions would only grow. */
    SSL_CTX_set_session_cache_mode(ctx->ssl, SSL_SESS_CACHE_OFF);
    return ctx;
}

static time_t not_after_of(SSL_CTX *ssl)
{
    const X509 *cert = SSL_CTX_get0_certificate(ssl);
    struct tm tm;

    if (cert == NULL || ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) != 1)
        return 0;
    return timegm(&tm);
}

/* A key under a password is refused: OpenSSL would ask whoever sits at the terminal. */
static int no_password(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return 0;
}

static int load_pair(SSL_CTX *ssl, const char *cert_path, const char *key_path, struct jr_errmsg *e)
{
    SSL_CTX_set_default_passwd_cb(ssl, no_password);
    if (SSL_CTX_use_certificate_chain_file(ssl, cert_path) != 1)
        return cannot(e, "cannot use the certificate (PEM) in", cert_path);
    if (SSL_CTX_use_PrivateKey_file(ssl, key_path, SSL_FILETYPE_PEM) != 1 &&
        ERR_GET_REASON(ERR_peek_last_error()) != X509_R_KEY_VALUES_MISMATCH)
        return cannot(e, "cannot use the private key (PEM) in", key_path);
    ERR_clear_error();
    if (SSL_CTX_check_private_key(ssl) == 1)
        return 0;
    ERR_clear_error();
    return jr_errmsg_set(e, JR_ECONFIG,
                         "the key in %.100s does not belong to the certificate in %.100s", key_path,
                         cert_path);
}

int jr_tls_server_context(const char *cert_path, const char *key_path, struct jr_errmsg *e,
                          struct jr_tls_context **ret)
{
    struct jr_tls_context *ctx = context_create(TLS_server_method());

    ERR_clear_error();
    SSL_CTX_set_alpn_select_cb(ctx->ssl, select_alpn, NULL);
    JR_ASSERT(SSL_CTX_set_cipher_list(ctx->ssl, CIPHERS_1_2) == 1);
    const int err = load_pair(ctx->ssl, cert_path, key_path, e);
    if (err < 0) {
        jr_tls_context_destroy(ctx);
        return err;
    }
    ctx->not_after = not_after_of(ctx->ssl);
    *ret = ctx;
    return 0;
}

int jr_tls_client_context(const char *ca_path, bool insecure, struct jr_errmsg *e,
                          struct jr_tls_context **ret)
{
    struct jr_tls_context *ctx = context_create(TLS_client_method());

    ERR_clear_error();
    ctx->is_client = true;
    ctx->insecure = insecure;
    SSL_CTX_set_alpn_protos(ctx->ssl, alpn, ALPN_N);
    SSL_CTX_set_verify(ctx->ssl, insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    const int ok = ca_path != NULL ? SSL_CTX_load_verify_file(ctx->ssl, ca_path)
                                   : SSL_CTX_set_default_verify_paths(ctx->ssl);
    if (ok != 1) {
        jr_tls_context_destroy(ctx);
        return cannot(e, "cannot use the certificates (PEM) in",
                      ca_path != NULL ? ca_path : "the system's folder");
    }
    *ret = ctx;
    return 0;
}

void jr_tls_context_destroy(struct jr_tls_context *ctx)
{
    if (ctx == NULL)
        return;
    SSL_CTX_free(ctx->ssl); /* sessions hold it, too */
    jr_xfree(ctx);
}

time_t jr_tls_context_not_after(const struct jr_tls_context *ctx)
{
    return ctx->not_after;
}

/* ---- sessions ---- */

static bool is_address(const char *name)
{
    unsigned char addr[16];

    return inet_pton(AF_INET, name, addr) == 1 || inet_pton(AF_INET6, name, addr) == 1;
}

static void expect_peer(struct jr_tls *t, const char *name)
{
    if (is_address(name)) {
        JR_ASSERT(X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), name) == 1);
        return;
    }
    JR_ASSERT(SSL_set1_host(t->ssl, name) == 1);
    SSL_set_tlsext_host_name(t->ssl, name);
}

struct jr_tls *jr_tls_create(struct jr_tls_context *ctx, const char *name)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct jr_tls *t = jr_xalloc(sizeof *t);

    (void)pthread_once(&once, make_bio_method);
    jr_buf_init(&t->in, JR_TLS_IN_MAX);
    jr_buf_init(&t->out, SIZE_MAX / 2);
    t->ssl = SSL_new(ctx->ssl);
    BIO *bio = BIO_new(bio_method);
    JR_ASSERT(t->ssl != NULL && bio != NULL && ctx->is_client == (name != NULL));
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    if (ctx->is_client) {
        SSL_set_connect_state(t->ssl);
        if (!ctx->insecure)
            expect_peer(t, name);
        else if (!is_address(name))
            SSL_set_tlsext_host_name(t->ssl, name);
    } else {
        SSL_set_accept_state(t->ssl);
    }
    return t;
}

void jr_tls_destroy(struct jr_tls *t)
{
    if (t == NULL)
        return;
    SSL_free(t->ssl);
    jr_buf_deinit(&t->in);
    jr_buf_deinit(&t->out);
    jr_xfree(t);
}

int jr_tls_feed(struct jr_tls *t, const void *p, size_t n)
{
    if (t->in_at > 0) {
        jr_buf_consume(&t->in, t->in_at);
        t->in_at = 0;
    }
    jr_buf_put(&t->in, p, n);
    return t->in.err;
}

bool jr_tls_has_input(const struct jr_tls *t)
{
    return !t->failed && (t->in.n > t->in_at || SSL_pending(t->ssl) > 0);
}

/* What was read whole is not held by an idle connection. */
static void release_in(struct jr_tls *t)
{
    if (t->in_at < t->in.n || t->in.n == 0)
        return;
    jr_buf_deinit(&t->in);
    jr_buf_init(&t->in, JR_TLS_IN_MAX);
    t->in_at = 0;
}

static int failed(struct jr_tls *t)
{
    const long verify = SSL_get_verify_result(t->ssl);
    const char *words = verify != X509_V_OK && (SSL_get_verify_mode(t->ssl) & SSL_VERIFY_PEER) != 0
                            ? X509_verify_cert_error_string(verify)
                            : first_reason();

    t->failed = true;
    snprintf(t->words, sizeof t->words, "%s", words);
    ERR_clear_error();
    return JR_EPROTO;
}

/* What a call of OpenSSL that gave no success means: 0 more bytes are needed. */
static int outcome(struct jr_tls *t, int rv)
{
    switch (SSL_get_error(t->ssl, rv)) {
    case SSL_ERROR_WANT_READ:
        release_in(t);
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return JR_ECLOSED;
    default:
        return failed(t);
    }
}

int jr_tls_handshake(struct jr_tls *t)
{
    if (t->failed)
        return JR_EPROTO;
    ERR_clear_error();
    const int rv = SSL_do_handshake(t->ssl);
    return rv == 1 ? 1 : outcome(t, rv);
}

bool jr_tls_ready(const struct jr_tls *t)
{
    return SSL_is_init_finished(t->ssl) == 1;
}

int jr_tls_read(struct jr_tls *t, void *p, size_t cap)
{
    JR_ASSERT(cap > 0);
    if (t->failed)
        return JR_EPROTO;
    ERR_clear_error();
    const int rv = SSL_read(t->ssl, p, cap > INT32_MAX ? INT32_MAX : (int)cap);
    return rv > 0 ? rv : outcome(t, rv);
}

int jr_tls_write(struct jr_tls *t, const void *p, size_t n)
{
    size_t written;

    if (n == 0)
        return 0;
    if (t->failed || !jr_tls_ready(t))
        return JR_EPROTO;
    ERR_clear_error();
    const int rv = SSL_write_ex(t->ssl, p, n, &written);
    if (rv != 1)
        return failed(t);
    JR_ASSERT(written == n); /* `out` takes everything */
    return 0;
}

void jr_tls_close(struct jr_tls *t)
{
    if (t->failed || !jr_tls_ready(t))
        return;
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl);
    ERR_clear_error();
}

const struct jr_buf *jr_tls_out(const struct jr_tls *t)
{
    return &t->out;
}

void jr_tls_sent(struct jr_tls *t)
{
    if (t->out.cap > JR_TLS_OUT_KEEP) {
        jr_buf_deinit(&t->out);
        jr_buf_init(&t->out, SIZE_MAX / 2);
    } else {
        jr_buf_clear(&t->out);
    }
}

const char *jr_tls_words(const struct jr_tls *t)
{
    return t->words;
}
