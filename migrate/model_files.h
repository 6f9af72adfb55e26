/* Model files: which files of a Hugging Face directory hold the weights.
 *
 * Either model.safetensors alone, or the shards that model.safetensors.index.json names. Directories come
 * from outside: a shard name is one path component of letters, digits, '.', '_' and '-', never hidden.
 *
 * Owner: gw_model_files_fini frees the names. Thread: plain data. Units: bytes.
 * Errors: GW_ERR_INPUT, GW_ERR_NOT_FOUND, GW_ERR_IO, GW_ERR_LIMIT with a text that names the file; on error
 * *out is unchanged. Source: Hugging Face transformers' sharded checkpoints. */
#ifndef GW_MIGRATE_MODEL_FILES_H
#define GW_MIGRATE_MODEL_FILES_H

#include <stdint.h>

#include "base/err.h"

#define GW_MODEL_SHARDS_MAX      1024
#define GW_MODEL_SHARD_NAME_MAX  128         /* bytes, without NUL */
#define GW_MODEL_INDEX_BYTES_MAX (16u << 20) /* a 405B model's index has 0.1 MB */

struct gw_model_files {
    uint32_t count;
    char (*names)[GW_MODEL_SHARD_NAME_MAX + 1]; /* ascending, each once */
};

gw_err_t gw_model_files_find(const char *dir, struct gw_model_files *out, struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_model_files_fini(struct gw_model_files *files);

#endif
