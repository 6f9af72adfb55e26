/* TLS verify: TLS to servers that prove themselves by certificates, as Redis does; what goes over it is base/socket.h's.
 *
 * TLS 1.2 or 1.3. The certificate must be signed by who is trusted (a file, or the system's list), be valid now, and be for
 * the name that is expected: one that was given, which also goes into the hello (SNI), else the numeric address that was
 * dialed. There is no way to leave any of it out. No certificate of our own is shown: servers ask for a password.
 *
 * Owner: gw_tls_destroy. Thread: as tls.h. Errors: as tls.h; GW_ERR_INPUT for a file that is no list of certificates. Source:
 * RFC 5280, RFC 6125; OpenSSL 3.0. */
#ifndef GW_BASE_TLS_VERIFY_H
#define GW_BASE_TLS_VERIFY_H

#include "base/tls.h"

struct gw_tls_verify_config {
    const char *ca_file; /* PEM; NULL: the system's list */
    const char *name;    /* NULL: the address */
};

/* A context whose sessions dial; their sockets are connected when they are created. */
gw_err_t gw_tls_verify_create(const struct gw_tls_verify_config *config, struct gw_tls **out,
                              struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
