#include "migrate/model_files.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define INDEX_NAME  "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"

static bool shard_name_ok(const char *name)
{
    static const char suffix[] = ".safetensors";
    size_t len = strlen(name), tail = sizeof suffix - 1;
    if (len <= tail || len > GW_MODEL_SHARD_NAME_MAX || name[0] == '.') return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i])) return false;
    return strcmp(name + len - tail, suffix) == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* A weight map has one entry per tensor and few files; neighbours mostly name the same one. */
static gw_err_t add_shard(struct gw_model_files *files, const char *name, struct gw_err_ctx *ctx)
{
    for (uint32_t i = files->count; i-- > 0;)
        if (strcmp(files->names[i], name) == 0) return GW_OK;
    if (!shard_name_ok(name))
        return gw_fail(ctx, GW_ERR_INPUT,
                       INDEX_NAME ": '%.40s' is no plain file name that ends in .safetensors", name);
    if (files->count == GW_MODEL_SHARDS_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, INDEX_NAME ": more than %d shards", GW_MODEL_SHARDS_MAX);
    snprintf(files->names[files->count++], sizeof files->names[0], "%s", name);
    return GW_OK;
}

static gw_err_t collect(const cJSON *index, struct gw_model_files *files, struct gw_err_ctx *ctx)
{
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map"), *item;
    if (!cJSON_IsObject(map)) return gw_fail(ctx, GW_ERR_INPUT, INDEX_NAME ": no object 'weight_map'");
    cJSON_ArrayForEach(item, map)
    {
        if (!cJSON_IsString(item))
            return gw_fail(ctx, GW_ERR_INPUT, INDEX_NAME ": a file name is not a string");
        TRY(add_shard(files, item->valuestring, ctx));
    }
    if (files->count == 0) return gw_fail(ctx, GW_ERR_INPUT, INDEX_NAME ": 'weight_map' is empty");
    qsort(files->names, files->count, sizeof *files->names, by_name);
    return GW_OK;
}

gw_err_t gw_model_files_find(const char *dir, struct gw_model_files *out, struct gw_err_ctx *ctx)
{
    char path[PATH_MAX];
    cJSON *index = NULL;
    struct gw_err_ctx why = {0};
    struct gw_model_files files = {0};
    if (snprintf(path, sizeof path, "%s/" INDEX_NAME, dir) >= (int)sizeof path)
        return gw_fail(ctx, GW_ERR_LIMIT, "%s: path too long", dir);
    gw_err_t err = gw_json_parse_file(path, GW_MODEL_INDEX_BYTES_MAX, &index, &why);
    if (err != GW_OK && err != GW_ERR_NOT_FOUND) return gw_fail(ctx, err, "%s", why.text);
    files.names = calloc(index ? GW_MODEL_SHARDS_MAX : 1, sizeof *files.names);
    if (!files.names) {
        cJSON_Delete(index);
        return gw_fail(ctx, GW_ERR_MEMORY, "%s: out of memory", dir);
    }
    err = GW_OK;
    if (index)
        err = collect(index, &files, ctx);
    else
        snprintf(files.names[files.count++], sizeof files.names[0], "%s", SINGLE_NAME);
    cJSON_Delete(index);
    if (err != GW_OK)
        gw_model_files_fini(&files);
    else
        *out = files;
    return err;
}

void gw_model_files_fini(struct gw_model_files *files)
{
    free(files->names);
    *files = (struct gw_model_files){0};
}
