/* API keys: who may use the front, and as which tenant.
 *
 * File: one `tenant:key` per line, # comments, blank lines. Keys are kept as SHA-256 and compared in constant
 * time over all entries, so that neither a match nor its place shows in the answer's time.
 *
 * Owner: open/destroy. Thread: immutable after open. Units: bytes. Errors: GW_ERR_INPUT with the line's
 * number, GW_ERR_IO, GW_ERR_NOT_FOUND. Source: own design; DESIGN part 10. */
#ifndef GW_CONTROLLER_API_KEYS_H
#define GW_CONTROLLER_API_KEYS_H

#include "migrate/request.h"

#define GW_API_KEYS_MAX 4096

struct gw_api_keys;

gw_err_t gw_api_keys_open(const char *path, struct gw_api_keys **out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_api_keys_destroy(struct gw_api_keys *keys);

/* Is `authorization` (the header's value, or NULL) "Bearer " and a known key? Then tenant gets the salt of
 * the key's tenant: the first bytes of SHA-256 of its name. keys == NULL: everyone may, the salt is zero. */
bool gw_api_keys_check(const struct gw_api_keys *keys, const char *authorization,
                       uint8_t tenant[GW_REQUEST_TENANT_BYTES]);

/* The token of "Bearer token", or NULL. */
const char *gw_bearer_token(const char *authorization);

#endif
