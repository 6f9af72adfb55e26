#include "base/tls_verify.h"

#include <netinet/in.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "base/tls_internal.h"

static gw_err_t trust(struct gw_tls *tls, const char *ca_file, struct gw_err_ctx *ctx)
{
    if (!ca_file && SSL_CTX_set_default_verify_paths(tls->ssl_ctx) != 1)
        return gw_fail(ctx, GW_ERR_IO, "TLS: the system's list of certificates cannot be read");
    if (ca_file && SSL_CTX_load_verify_file(tls->ssl_ctx, ca_file) != 1)
        return gw_fail(ctx, GW_ERR_INPUT, "TLS: %s is no PEM file of certificates that can be read", ca_file);
    return GW_OK;
}

static gw_err_t set_up(struct gw_tls *tls, const struct gw_tls_verify_config *config, struct gw_err_ctx *ctx)
{
    tls->ssl_ctx = SSL_CTX_new(TLS_client_method());
    if (!tls->ssl_ctx || SSL_CTX_set_min_proto_version(tls->ssl_ctx, TLS1_2_VERSION) != 1 ||
        tls_make_socket_method(tls) != GW_OK)
        return gw_fail(ctx, GW_ERR_MEMORY, "TLS: out of memory");
    SSL_CTX_set_options(tls->ssl_ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(tls->ssl_ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(tls->ssl_ctx, SSL_VERIFY_PEER, NULL);
    if (config->name && !(tls->name = strdup(config->name)))
        return gw_fail(ctx, GW_ERR_MEMORY, "TLS: out of memory");
    return trust(tls, config->ca_file, ctx);
}

gw_err_t gw_tls_verify_create(const struct gw_tls_verify_config *config, struct gw_tls **out,
                              struct gw_err_ctx *ctx)
{
    struct gw_tls *tls = calloc(1, sizeof *tls);
    if (!tls) return gw_fail(ctx, GW_ERR_MEMORY, "TLS: out of memory");
    tls->verifies = true;
    tls->rekey_bytes = TLS_REKEY_BYTES;
    gw_err_t err = set_up(tls, config, ctx);
    if (err == GW_OK)
        *out = tls;
    else
        gw_tls_destroy(tls);
    return err;
}

/* An address is in a certificate as its bytes. */
static bool expect_address(SSL *ssl, int fd)
{
    struct sockaddr_storage addr = {0};
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    socklen_t len = sizeof addr;
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    if (getpeername(fd, (struct sockaddr *)&addr, &len) != 0) return false;
    memcpy(&v4, &addr, sizeof v4);
    memcpy(&v6, &addr, sizeof v6);
    if (addr.ss_family == AF_INET)
        return X509_VERIFY_PARAM_set1_ip(param, (const uint8_t *)&v4.sin_addr, sizeof v4.sin_addr) == 1;
    if (addr.ss_family == AF_INET6)
        return X509_VERIFY_PARAM_set1_ip(param, (const uint8_t *)&v6.sin6_addr, sizeof v6.sin6_addr) == 1;
    return false;
}

gw_err_t tls_expect_name(const struct gw_tls *tls, SSL *ssl, int fd)
{
    bool ok = tls->name ? SSL_set1_host(ssl, tls->name) == 1 && SSL_set_tlsext_host_name(ssl, tls->name) == 1
                        : expect_address(ssl, fd);
    return ok ? GW_OK : GW_ERR_IO;
}
