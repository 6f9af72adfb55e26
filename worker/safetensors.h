/* Safetensors: the weight files of a model directory, mapped and checked.
 *
 *     file: header length (u64 LE) | header, JSON | data
 *     header: {"name": {"dtype": "BF16", "shape": [n, k], "data_offsets": [begin, end]}, …, "__metadata__"}
 *
 * Files come from outside. When open succeeds, every tensor lies inside its file's data, overlaps no other,
 * holds exactly dtype × shape bytes, is aligned for its type, and each name is there once over all shards.
 *
 * Owner: tensors point into memory that gw_safetensors_close unmaps. Thread: const after open.
 * Units: bytes, elements. Errors: GW_ERR_INPUT, GW_ERR_LIMIT, GW_ERR_IO, GW_ERR_NOT_FOUND, one line that
 * names the file; on error *out is unchanged. A file that is truncated while it is mapped kills the process
 * (SIGBUS): model directories must not be written to while they serve.
 * Source: huggingface.co/docs/safetensors, "Format". */
#ifndef GW_WORKER_SAFETENSORS_H
#define GW_WORKER_SAFETENSORS_H

#include "kernels/op.h"

#define GW_SAFETENSORS_HEADER_MAX (64u << 20) /* bytes per file */
#define GW_SAFETENSORS_NAME_MAX   256         /* bytes of a tensor's name */
#define GW_SAFETENSORS_DIMS_MAX   8
#define GW_SAFETENSORS_COUNT_MAX  (1u << 20) /* tensors over all shards */

struct gw_tensor {
    char *name;
    enum gw_dtype type; /* 0: a type that no operation takes (integers, bool, f64, f8) */
    uint32_t dims;
    uint64_t shape[GW_SAFETENSORS_DIMS_MAX];
    const void *data;
    uint64_t bytes;
};

struct gw_safetensors;

gw_err_t gw_safetensors_open(const char *dir, struct gw_safetensors **out,
                             struct gw_err_ctx *ctx) GW_MUST_USE;
/* One file's bytes in memory (tests, fuzzing), which must outlive the result. */
gw_err_t gw_safetensors_parse(const void *bytes, size_t len, struct gw_safetensors **out,
                              struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_safetensors_close(struct gw_safetensors *files);

/* All tensors, by name. */
uint32_t gw_safetensors_count(const struct gw_safetensors *files);
const struct gw_tensor *gw_safetensors_at(const struct gw_safetensors *files, uint32_t index);

/* NULL if there is none of that name. */
const struct gw_tensor *gw_safetensors_find(const struct gw_safetensors *files, const char *name);

#endif
