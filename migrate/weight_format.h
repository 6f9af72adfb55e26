/* Weight format: how a model's matrices are kept where they are multiplied, as its files have them or quantized.
 *
 * It is chosen for a whole cluster (--weights), as workers of two formats compute two functions: it enters the model's
 * fingerprint, and numerics profiles are named for it.
 *
 * Owner: constants. Thread: safe. Units: none. Errors: GW_ERR_INPUT; on error *out is unchanged. Source: own design. */
#ifndef GW_MIGRATE_WEIGHT_FORMAT_H
#define GW_MIGRATE_WEIGHT_FORMAT_H

#include "base/err.h"

enum gw_weight_format {
    GW_WEIGHT_FILE, /* of the files' own type */
    GW_WEIGHT_INT8, /* int8 with a scale for each output (of each share); not embeddings, norms, routers */
    GW_WEIGHT_FP8,  /* OCP e4m3, likewise */
};

const char *gw_weight_format_name(enum gw_weight_format format); /* "file" etc. */

/* By its name, of the flag --weights. */
gw_err_t gw_weight_format_parse(const char *name, enum gw_weight_format *out,
                                struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
