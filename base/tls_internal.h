/* TLS, inside: what contexts of both kinds share, by the cluster key (tls.c) and by servers' certificates (tls_verify.c). */
#ifndef GW_BASE_TLS_INTERNAL_H
#define GW_BASE_TLS_INTERNAL_H

#include <openssl/ssl.h>

#include "base/hash.h"
#include "base/tls.h"

#define TLS_REKEY_BYTES ((uint64_t)64 << 30) /* RFC 8446 5.5 allows AES-GCM 2^24.5 full records: 360 GiB */

struct gw_tls {
    SSL_CTX *ssl_ctx;
    BIO_METHOD *socket_method;
    uint64_t rekey_bytes;
    /* by the cluster key */
    uint8_t psk[GW_SHA256_BYTES];
    bool everywhere;
    /* by certificates */
    bool verifies;
    char *name; /* that the server's must have; NULL: its address */
};

/* Sockets under OpenSSL of our own. */
gw_err_t tls_make_socket_method(struct gw_tls *tls) GW_MUST_USE;

/* Whose certificate ssl takes: the context's name, else the address that fd is connected to. */
gw_err_t tls_expect_name(const struct gw_tls *tls, SSL *ssl, int fd) GW_MUST_USE;

#endif
