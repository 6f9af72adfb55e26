/* Secrets by file: never in argv, environment listings, logs or state files.
 *
 * Owner: the caller wipes (gw_bytes_wipe) and frees. Thread: start-up. Units: bytes.
 * Errors: GW_ERR_INPUT when others may read the file or it is empty; GW_ERR_NOT_FOUND, GW_ERR_IO. Source: own
 * design. */
#ifndef GW_BASE_SECRET_H
#define GW_BASE_SECRET_H

#include "base/err.h"

#define GW_SECRET_MAX 4096

/* Reads a secret; white space at the end is not part of it. Refuses a file that others than its owner may
 * read. */
gw_err_t gw_secret_read(const char *path, char **out, size_t *len, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Wipes and frees; NULL is fine. */
void gw_secret_free(char *secret, size_t len);

#endif
