/* Model info: the few numbers of a model directory that the controller needs (it never reads weights, but for
 * hashing them).
 *
 * Owner: caller memory. Thread: start-up. Units: tokens. Errors: GW_ERR_INPUT, GW_ERR_NOT_FOUND; the text
 * names the file. Source: Hugging Face config.json. */
#ifndef GW_CONTROLLER_MODEL_INFO_H
#define GW_CONTROLLER_MODEL_INFO_H

#include <stdint.h>

#include "base/err.h"

#define GW_MODEL_NAME_MAX 128

struct gw_model_info {
    char name[GW_MODEL_NAME_MAX]; /* of the directory, unless named otherwise */
    uint32_t vocab, context;
};

/* name: NULL = the directory's own name. */
gw_err_t gw_model_info_read(const char *dir, const char *name, struct gw_model_info *out,
                            struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
