/* Files read whole, with a bound, and files written so that a reader sees the old or the new, never half.
 *
 * Owner: the caller frees what is read. Thread: safe. Units: bytes.
 * Errors: GW_ERR_NOT_FOUND, GW_ERR_IO, GW_ERR_LIMIT (the text names the file); on error *out is unchanged.
 * Source: own design. */
#ifndef GW_BASE_FILE_H
#define GW_BASE_FILE_H

#include "base/err.h"

/* Reads a regular file of at most max_bytes. *out is malloc'ed with a NUL behind it; the caller frees. */
gw_err_t gw_file_read(const char *path, size_t max_bytes, char **out, size_t *len,
                      struct gw_err_ctx *ctx) GW_MUST_USE;

/* Writes bytes to path through a temporary beside it and rename(2); mode e.g. 0644. */
gw_err_t gw_file_replace(const char *path, const void *bytes, size_t len, unsigned mode,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
