#include "controller/model_info.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define CONFIG_MAX  (1u << 20)
#define CONTEXT_MAX (1 << 20)
#define VOCAB_MAX   (1 << 22)

static gw_err_t name_from_dir(const char *dir, struct gw_model_info *info, struct gw_err_ctx *ctx)
{
    char real[PATH_MAX];
    if (!realpath(dir, real)) return gw_fail(ctx, GW_ERR_NOT_FOUND, "%s: no such model directory", dir);
    snprintf(info->name, sizeof info->name, "%s", strrchr(real, '/') + 1);
    return GW_OK;
}

static gw_err_t read_config(const char *dir, struct gw_model_info *info, struct gw_err_ctx *ctx)
{
    char path[PATH_MAX];
    cJSON *config = NULL;
    int64_t context = 0, vocab = 0;
    snprintf(path, sizeof path, "%s/config.json", dir);
    TRY(gw_json_parse_file(path, CONFIG_MAX, &config, ctx));
    gw_err_t err = gw_json_int(config, "max_position_embeddings", 1, CONTEXT_MAX, &context, ctx);
    if (err == GW_OK) err = gw_json_int(config, "vocab_size", 1, VOCAB_MAX, &vocab, ctx);
    cJSON_Delete(config);
    if (err != GW_OK) return gw_fail_prefix(ctx, err, "%s", path);
    if (!context || !vocab)
        return gw_fail(ctx, GW_ERR_INPUT, "%s: max_position_embeddings and vocab_size are needed", path);
    info->context = (uint32_t)context;
    info->vocab = (uint32_t)vocab;
    return GW_OK;
}

gw_err_t gw_model_info_read(const char *dir, const char *name, struct gw_model_info *out,
                            struct gw_err_ctx *ctx)
{
    struct gw_model_info info = {0};
    TRY(name_from_dir(dir, &info, ctx));
    if (name) snprintf(info.name, sizeof info.name, "%s", name);
    TRY(read_config(dir, &info, ctx));
    *out = info;
    return GW_OK;
}
