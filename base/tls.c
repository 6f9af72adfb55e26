#include "base/tls.h"

#include <assert.h>
#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/sockaddr.h"
#include "base/tls_internal.h"

#define SUITES       "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS       "X25519:P-256"
#define RECORD_BYTES ((size_t)SSL3_RT_MAX_PLAIN_LENGTH)
/* A piece that is as large is encrypted where it lies; smaller ones are gathered, so that a head and its table share a
 * record, and with it a system call. */
#define DIRECT_BYTES (RECORD_BYTES / 2)
#define CALL_BYTES   (16 * RECORD_BYTES) /* of one write: others on this thread have their turn, too */
#define READ_AHEAD   ((size_t)64 << 10) /* of one recv(2): some records; it stays in L2 until they are opened */
#define RECORD_TYPES 0x14, 0x17         /* change_cipher_spec to application_data */
#define LEGACY_MAJOR 3                  /* the version's first byte in every record, also of TLS 1.3 */

static const char salt[] = "godwit tls 1";
static const unsigned char identity[] = "godwit cluster";
static const unsigned char suite_of_psk[] = {0x13,
                                             0x01}; /* TLS_AES_128_GCM_SHA256: it says the hash, SHA-256 */

struct gw_tls_session {
    SSL *ssl;
    int fd;
    bool at_end;        /* the socket's */
    gw_err_t err;       /* what ended it */
    const char *reason; /* static text */
    bool verifies;      /* the server by its certificate */
    bool more;
    size_t held; /* bytes of the caller's next write that are on their way */
    uint64_t rekey_bytes, until_rekey;
    uint8_t stage[RECORD_BYTES]; /* small pieces of one record */
};

/* ---- what is wrong ---- */

static const char not_tls[] =
    "TLS: the other side speaks plaintext: --insecure-plaintext must be given to both or to none";
static const char wrong_key[] = "TLS: the other side does not hold the cluster key";
static const char unclear[] = "TLS: the other side does not hold the cluster key or speaks plaintext";
static const char closed[] =
    "TLS: the other side closed the connection: it does not hold the cluster key or speaks plaintext";

static const char *why_of(unsigned long code)
{
    switch (ERR_GET_REASON(code)) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST: return not_tls;
    case SSL_R_BINDER_DOES_NOT_VERIFY:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
    case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE: return wrong_key;
    default: return unclear;
    }
}

/* The same of a server with a certificate. */
static const char *why_of_server(const SSL *ssl, unsigned long code)
{
    long verdict = SSL_get_verify_result(ssl);
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    if (verdict != X509_V_OK) return X509_verify_cert_error_string(verdict);
    return reason ? reason : "the server closed the connection during the TLS handshake";
}

/* ---- the pre-shared key ---- */

/* HKDF (RFC 5869): extract, and one block of expand. */
static void derive_psk(struct gw_tls *tls, const struct gw_tls_config *config)
{
    static const uint8_t info[] = "psk\x01";
    uint8_t root[GW_SHA256_BYTES];
    gw_hmac_sha256(salt, sizeof salt - 1, config->key, config->key_len, root);
    gw_hmac_sha256(root, sizeof root, info, sizeof info - 1, tls->psk);
    gw_bytes_wipe(root, sizeof root);
}

/* NULL: out of memory. */
static SSL_SESSION *make_psk(SSL *ssl)
{
    const struct gw_tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const SSL_CIPHER *suite = SSL_CIPHER_find(ssl, suite_of_psk);
    SSL_SESSION *psk = SSL_SESSION_new();
    if (psk && suite && SSL_SESSION_set1_master_key(psk, tls->psk, sizeof tls->psk) == 1 &&
        SSL_SESSION_set_cipher(psk, suite) == 1 &&
        SSL_SESSION_set_protocol_version(psk, TLS1_3_VERSION) == 1 &&
        SSL_SESSION_set1_id_context(psk, identity, sizeof identity - 1) == 1)
        return psk;
    SSL_SESSION_free(psk);
    return NULL;
}

/* The dialer's. hash: of the suite that was chosen already, NULL: none is. */
static int offer_psk(SSL *ssl, const EVP_MD *hash, const unsigned char **id, size_t *id_len,
                     SSL_SESSION **out)
{
    *out = NULL;
    if (hash && !EVP_MD_is_a(hash, "SHA2-256")) return 1;
    *out = make_psk(ssl);
    *id = identity;
    *id_len = sizeof identity - 1;
    return *out != NULL;
}

/* The listener's. A dialer of another name gets no key, and a listener without certificates has nothing else to offer. */
static int find_psk(SSL *ssl, const unsigned char *id, size_t id_len, SSL_SESSION **out)
{
    bool ours = id_len == sizeof identity - 1 && memcmp(id, identity, id_len) == 0;
    *out = ours ? make_psk(ssl) : NULL;
    return !ours || *out;
}

/* ---- sockets under OpenSSL: its own raise SIGPIPE and heed the socket's mode ---- */

static int socket_read(BIO *bio, char *to, int len)
{
    struct gw_tls_session *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = recv(s->fd, to, (size_t)len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
    s->at_end = n == 0;
    return (int)n;
}

static int socket_write(BIO *bio, const char *from, int len)
{
    struct gw_tls_session *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = send(s->fd, from, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
    return (int)n;
}

static long socket_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH; /* nothing is kept back */
}

gw_err_t tls_make_socket_method(struct gw_tls *tls)
{
    tls->socket_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "godwit socket");
    bool ok = tls->socket_method && BIO_meth_set_read(tls->socket_method, socket_read) == 1 &&
              BIO_meth_set_write(tls->socket_method, socket_write) == 1 &&
              BIO_meth_set_ctrl(tls->socket_method, socket_ctrl) == 1;
    return ok ? GW_OK : GW_ERR_MEMORY;
}

/* ---- the context ---- */

static gw_err_t make_ssl_ctx(struct gw_tls *tls)
{
    SSL_CTX *c = tls->ssl_ctx = SSL_CTX_new(TLS_method());
    if (!c || SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) != 1 || SSL_CTX_set_ciphersuites(c, SUITES) != 1 ||
        SSL_CTX_set1_groups_list(c, GROUPS) != 1 || SSL_CTX_set_num_tickets(c, 0) != 1 ||
        SSL_CTX_set_session_id_context(c, identity, sizeof identity - 1) != 1)
        return GW_ERR_MEMORY;
    SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(c, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* No certificate is ever good: a listener that offers one instead of the key is refused. */
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_psk_use_session_callback(c, offer_psk);
    SSL_CTX_set_psk_find_session_callback(c, find_psk);
    SSL_CTX_set_app_data(c, tls);
    return GW_OK;
}

gw_err_t gw_tls_create(const struct gw_tls_config *config, struct gw_tls **out, struct gw_err_ctx *ctx)
{
    struct gw_tls *tls = calloc(1, sizeof *tls);
    if (!tls) return gw_fail(ctx, GW_ERR_MEMORY, "TLS: out of memory");
    tls->everywhere = config->everywhere;
    tls->rekey_bytes = config->rekey_bytes ? config->rekey_bytes : TLS_REKEY_BYTES;
    derive_psk(tls, config);
    gw_err_t err = make_ssl_ctx(tls);
    if (err == GW_OK) err = tls_make_socket_method(tls);
    if (err == GW_OK) {
        *out = tls;
        return GW_OK;
    }
    gw_tls_destroy(tls);
    return gw_fail(ctx, err, "TLS: out of memory, or OpenSSL lacks TLS 1.3");
}

void gw_tls_destroy(struct gw_tls *tls)
{
    if (!tls) return;
    SSL_CTX_free(tls->ssl_ctx);
    BIO_meth_free(tls->socket_method);
    gw_bytes_wipe(tls->psk, sizeof tls->psk);
    free(tls->name);
    free(tls);
}

bool gw_tls_is_due(const struct gw_tls *tls, const struct sockaddr_storage *addr)
{
    if (!tls) return false;
    return tls->everywhere || (addr->ss_family != AF_UNIX && !gw_sockaddr_is_loopback(addr));
}

bool gw_tls_is_due_at(const struct gw_tls *tls, int fd)
{
    struct sockaddr_storage own = {0};
    socklen_t len = sizeof own;
    /* A socket that has no address any more is broken: the handshake says so. */
    return tls && (getsockname(fd, (struct sockaddr *)&own, &len) != 0 || gw_tls_is_due(tls, &own));
}

bool gw_tls_is_record(const uint8_t *bytes, size_t len)
{
    static const uint8_t types[] = {RECORD_TYPES};
    return len >= 2 && bytes[0] >= types[0] && bytes[0] <= types[1] && bytes[1] == LEGACY_MAJOR;
}

/* ---- a session ---- */

gw_err_t gw_tls_session_create(const struct gw_tls *tls, int fd, bool dials, struct gw_tls_session **out)
{
    struct gw_tls_session *s = calloc(1, sizeof *s);
    BIO *bio = BIO_new(tls->socket_method);
    SSL *ssl = SSL_new(tls->ssl_ctx);
    gw_err_t err = s && bio && ssl ? GW_OK : GW_ERR_MEMORY;
    if (err == GW_OK && tls->verifies) err = tls_expect_name(tls, ssl, fd);
    if (err != GW_OK) {
        free(s);
        BIO_free(bio);
        SSL_free(ssl);
        return err;
    }
    *s = (struct gw_tls_session){.ssl = ssl,
                                 .fd = fd,
                                 .verifies = tls->verifies,
                                 .rekey_bytes = tls->rekey_bytes,
                                 .until_rekey = tls->rekey_bytes};
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio); /* the session's own from here on */
    SSL_set_read_ahead(ssl, 1);
    SSL_set_default_read_buffer_len(ssl, READ_AHEAD);
    if (dials)
        SSL_set_connect_state(ssl);
    else
        SSL_set_accept_state(ssl);
    *out = s;
    return GW_OK;
}

void gw_tls_session_destroy(struct gw_tls_session *s)
{
    if (!s) return;
    SSL_free(s->ssl);
    gw_bytes_wipe(s->stage, sizeof s->stage);
    free(s);
}

/* Does result mean that the session waits for its socket? What for, then. */
static bool is_waiting(const struct gw_tls_session *s, int result, short *events)
{
    int error = SSL_get_error(s->ssl, result);
    *events = error == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN;
    return error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ;
}

gw_err_t gw_tls_shake(struct gw_tls_session *s, short *events, const char **why)
{
    ERR_clear_error(); /* SSL_get_error looks at what this thread left there, too */
    int result = SSL_do_handshake(s->ssl);
    if (result != 1 && is_waiting(s, result, events)) return GW_OK;
    if (result != 1) {
        unsigned long code = ERR_peek_error();
        *why = s->verifies ? why_of_server(s->ssl, code) : code ? why_of(code) : closed;
        return code ? GW_ERR_PROTO : GW_ERR_IO;
    }
    *events = 0;
    s->more = SSL_has_pending(s->ssl);
    if (s->verifies || SSL_session_reused(s->ssl)) return GW_OK; /* reused: by the pre-shared key */
    *why = wrong_key;
    return GW_ERR_PROTO;
}

/* The first error is what ended the session; what OpenSSL says later only repeats that it is over. */
static void note_failure(struct gw_tls_session *s)
{
    unsigned long code = ERR_peek_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    if (s->err != GW_OK) return;
    s->err = code ? GW_ERR_PROTO : GW_ERR_IO;
    if (reason)
        s->reason = reason;
    else if (s->at_end)
        s->reason = "the peer closed the connection";
    else
        s->reason = errno ? strerrordesc_np(errno) : "the TLS session is broken";
}

static gw_err_t fail_session(struct gw_tls_session *s, struct gw_err_ctx *ctx)
{
    note_failure(s);
    return gw_fail(ctx, s->err, "%s%s", s->err == GW_ERR_PROTO ? "TLS: " : "", s->reason);
}

gw_err_t gw_tls_readv(struct gw_tls_session *s, const struct iovec *iov, uint32_t len, size_t *got,
                      struct gw_err_ctx *ctx)
{
    short events;
    *got = 0;
    for (uint32_t i = 0; i < len; i++) {
        size_t n;
        for (size_t at = 0; at < iov[i].iov_len; at += n, *got += n) {
            ERR_clear_error();
            errno = 0;
            int result = SSL_read_ex(s->ssl, (uint8_t *)iov[i].iov_base + at, iov[i].iov_len - at, &n);
            if (result == 1) continue;
            s->more = !is_waiting(s, result, &events);
            if (!s->more) return GW_OK;
            note_failure(s); /* it is told when the bytes before it have been used */
            return *got > 0 ? GW_OK : fail_session(s, ctx);
        }
    }
    s->more = SSL_has_pending(s->ssl);
    return GW_OK;
}

/* Where the next write begins. */
struct cursor {
    const struct iovec *iov;
    uint32_t len, at;
    size_t offset; /* in iov[at] */
};

static void step_over_empty(struct cursor *c)
{
    while (c->at < c->len && c->offset == c->iov[c->at].iov_len) {
        c->at++;
        c->offset = 0;
    }
}

/* Copies at most max bytes from a copy of the cursor. */
static size_t gather(struct cursor c, uint8_t *to, size_t max)
{
    size_t bytes = 0;
    for (step_over_empty(&c); c.at < c.len && bytes < max; step_over_empty(&c)) {
        size_t left = c.iov[c.at].iov_len - c.offset, n = left < max - bytes ? left : max - bytes;
        memcpy(to + bytes, (const uint8_t *)c.iov[c.at].iov_base + c.offset, n);
        bytes += n;
        c.offset += n;
    }
    return bytes;
}

/* The next record's bytes: as many as are held, if any are. 0: there are none. */
static size_t next_record(struct gw_tls_session *s, struct cursor *c, const uint8_t **bytes)
{
    size_t want = s->held ? s->held : RECORD_BYTES;
    step_over_empty(c);
    if (c->at == c->len) return 0;
    size_t here = c->iov[c->at].iov_len - c->offset;
    if (here >= want || (!s->held && (here >= DIRECT_BYTES || c->at + 1 == c->len))) {
        *bytes = (const uint8_t *)c->iov[c->at].iov_base + c->offset;
        return here < want ? here : want;
    }
    *bytes = s->stage;
    return gather(*c, s->stage, want);
}

static void consume(struct cursor *c, size_t bytes)
{
    while (bytes > 0) {
        size_t left = c->iov[c->at].iov_len - c->offset, n = left < bytes ? left : bytes;
        c->offset += n;
        bytes -= n;
        step_over_empty(c);
    }
}

/* With the next record. */
static gw_err_t count_for_rekey(struct gw_tls_session *s, size_t bytes, struct gw_err_ctx *ctx)
{
    s->until_rekey -= bytes < s->until_rekey ? bytes : s->until_rekey;
    if (s->until_rekey > 0) return GW_OK;
    s->until_rekey = s->rekey_bytes;
    if (SSL_version(s->ssl) < TLS1_3_VERSION) return GW_OK;
    return SSL_key_update(s->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 ? GW_OK : fail_session(s, ctx);
}

gw_err_t gw_tls_writev(struct gw_tls_session *s, const struct iovec *iov, uint32_t len, size_t *wrote,
                       struct gw_err_ctx *ctx)
{
    struct cursor c = {.iov = iov, .len = len};
    const uint8_t *bytes;
    short events;
    *wrote = 0;
    for (size_t n; *wrote < CALL_BYTES && (n = next_record(s, &c, &bytes)) > 0; *wrote += n) {
        size_t done;
        assert(s->held == 0 || n == s->held); /* else the caller dropped bytes that it had begun to write */
        ERR_clear_error();
        errno = 0;
        int result = SSL_write_ex(s->ssl, bytes, n, &done);
        if (result != 1) {
            s->held = n;
            return is_waiting(s, result, &events) ? GW_OK : fail_session(s, ctx);
        }
        assert(done == n); /* one record, whole */
        s->held = 0;
        consume(&c, n);
        TRY(count_for_rekey(s, n, ctx));
    }
    return GW_OK;
}

bool gw_tls_has_more(const struct gw_tls_session *s)
{
    return s->more;
}

/* ---- bufferevents ---- */

struct bufferevent *gw_tls_bufferevent(const struct gw_tls *tls, struct event_base *loop, int fd, bool dials,
                                       int options)
{
    SSL *ssl = SSL_new(tls->ssl_ctx);
    assert(options & BEV_OPT_CLOSE_ON_FREE); /* ssl is the bufferevent's, also when it cannot be made */
    if (!ssl) return NULL;
    struct bufferevent *bev = bufferevent_openssl_socket_new(
        loop, fd, ssl, dials ? BUFFEREVENT_SSL_CONNECTING : BUFFEREVENT_SSL_ACCEPTING, options);
    if (bev) bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    return bev;
}

const char *gw_tls_bufferevent_why(struct bufferevent *bev)
{
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    unsigned long code = ssl ? bufferevent_get_openssl_error(bev) : 0;
    if (!ssl) return NULL;
    if (code) return why_of(code);
    /* Nobody spoke, or what did was no TLS. The socket's own errors come before the first byte. */
    return SSL_is_init_finished(ssl) || SSL_get_state(ssl) == TLS_ST_CW_CLNT_HELLO ? NULL : unclear;
}
