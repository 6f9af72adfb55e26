/* Bos and eos: which tokens begin and end a text, gathered from the model directory's other files. */
#include "controller/text/tokenizer_impl.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

/* A file that need not be there: then *out stays NULL. */
static gw_err_t read_optional(const char *dir, const char *name, cJSON **out, struct gw_err_ctx *ctx)
{
    char path[PATH_MAX];
    struct gw_err_ctx own = {0};
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return gw_fail(ctx, GW_ERR_LIMIT, "%s: path too long", dir);
    gw_err_t err = gw_json_parse_file(path, GW_TOKENIZER_CONFIG_MAX, out, &own);
    if (err == GW_ERR_NOT_FOUND) return GW_OK;
    return err == GW_OK ? GW_OK : gw_fail(ctx, err, "%s", own.text);
}

static gw_err_t copy_text(char **out, const char *text, size_t len, struct gw_err_ctx *ctx)
{
    free(*out);
    *out = strndup(text, len);
    return *out ? GW_OK : gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
}

/* "bos_token": "<s>" or {"content": "<s>", ...} */
static gw_err_t load_text(const cJSON *config, const char *field, char **out, struct gw_err_ctx *ctx)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, field);
    if (cJSON_IsObject(v)) v = cJSON_GetObjectItemCaseSensitive(v, "content");
    if (!cJSON_IsString(v)) return GW_OK;
    return copy_text(out, v->valuestring, strlen(v->valuestring), ctx);
}

/* Appends one id of "eos_token_id". */
static gw_err_t put_eos_id(struct gw_tokenizer *t, const cJSON *v, struct gw_err_ctx *ctx)
{
    double id = cJSON_IsNumber(v) ? v->valuedouble : -1;
    if (id != floor(id) || id < 0 || id >= t->vocab.size)
        return gw_fail(ctx, GW_ERR_INPUT, "eos_token_id must be ids of the vocabulary (%u tokens)",
                       t->vocab.size);
    if (t->eos_ids_len == GW_TOKENIZER_EOS_IDS_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "eos_token_id: more than %d ids", GW_TOKENIZER_EOS_IDS_MAX);
    t->eos_ids[t->eos_ids_len++] = (uint32_t)id;
    return GW_OK;
}

static gw_err_t load_eos_ids(struct gw_tokenizer *t, const cJSON *config, struct gw_err_ctx *ctx)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, "eos_token_id"), *item;
    if (t->eos_ids_len > 0 || !v || cJSON_IsNull(v)) return GW_OK;
    if (!cJSON_IsArray(v)) return put_eos_id(t, v, ctx);
    cJSON_ArrayForEach(item, v) TRY(put_eos_id(t, item, ctx));
    return GW_OK;
}

/* If no file names the token's text, its id may. */
static gw_err_t text_by_id(struct gw_tokenizer *t, const cJSON *config, const char *field, char **out,
                           struct gw_err_ctx *ctx)
{
    int64_t id = -1;
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(config, field);
    if (*out || !cJSON_IsNumber(v)) return GW_OK;
    TRY(gw_json_int(config, field, 0, (int64_t)t->vocab.size - 1, &id, ctx));
    size_t len;
    const char *text = gw_vocab_bytes(&t->vocab, (uint32_t)id, &len);
    return text ? copy_text(out, text, len, ctx) : GW_OK;
}

static gw_err_t combine(struct gw_tokenizer *t, const cJSON *tokenizer, const cJSON *generation,
                        const cJSON *model, struct gw_err_ctx *ctx)
{
    TRY(load_text(tokenizer, "bos_token", &t->bos, ctx));
    TRY(load_text(tokenizer, "eos_token", &t->eos, ctx));
    TRY(text_by_id(t, generation, "bos_token_id", &t->bos, ctx));
    TRY(text_by_id(t, model, "bos_token_id", &t->bos, ctx));
    TRY(load_eos_ids(t, generation, ctx));
    TRY(load_eos_ids(t, model, ctx));
    if (t->eos_ids_len == 0 && t->eos) {
        uint32_t id = gw_tokenizer_find(t, t->eos);
        if (id != GW_VOCAB_NONE) t->eos_ids[t->eos_ids_len++] = id;
    }
    if (t->eos || t->eos_ids_len == 0) return GW_OK;
    size_t len;
    const char *text = gw_vocab_bytes(&t->vocab, t->eos_ids[0], &len);
    return text ? copy_text(&t->eos, text, len, ctx) : GW_OK;
}

gw_err_t gw_tokenizer_load_config(struct gw_tokenizer *t, const char *dir, struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    cJSON *tokenizer = NULL, *generation = NULL, *model = NULL;
    TRY_GOTO(read_optional(dir, "tokenizer_config.json", &tokenizer, ctx), out);
    TRY_GOTO(read_optional(dir, "generation_config.json", &generation, ctx), out);
    TRY_GOTO(read_optional(dir, "config.json", &model, ctx), out);
    err = combine(t, tokenizer, generation, model, ctx);
    if (err != GW_OK) gw_fail_prefix(ctx, err, "%s", dir);
out:
    cJSON_Delete(tokenizer);
    cJSON_Delete(generation);
    cJSON_Delete(model);
    return err;
}
