/* KV format: how pages hold the K and V of a token, as the model's arithmetic has them or quantized.
 *
 * It is chosen for a whole cluster (--kv), as workers of two formats compute two functions: it enters the model's
 * fingerprint, and numerics profiles are named for it.
 *
 * Owner: constants. Thread: safe. Units: none. Errors: GW_ERR_INPUT; on error *out is unchanged. Source: own design. */
#ifndef GW_MIGRATE_KV_FORMAT_H
#define GW_MIGRATE_KV_FORMAT_H

#include "base/err.h"

enum gw_kv_format {
    GW_KV_FILE, /* of the type that activations have: that of the model's files */
    GW_KV_INT8, /* int8 with a scale for each token and KV head, of K and of V */
};

const char *gw_kv_format_name(enum gw_kv_format format); /* "file" etc. */

/* By its name, of the flag --kv. */
gw_err_t gw_kv_format_parse(const char *name, enum gw_kv_format *out, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
