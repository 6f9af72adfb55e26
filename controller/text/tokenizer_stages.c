/* tokenizer.json: the stages between text and words, which are normalizer and pre-tokenizer. */
#include "controller/text/tokenizer_impl.h"

#include <string.h>

#include "base/json.h"

/* What ByteLevel cuts by when use_regex is on (GPT-2). */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static gw_err_t load_normalizer(struct gw_tokenizer *t, const cJSON *n, struct gw_err_ctx *ctx)
{
    const char *type = gw_tokenizer_type(n);
    if (!n || cJSON_IsNull(n)) return GW_OK;
    if (strcmp(type, "Sequence") == 0) {
        const cJSON *list = cJSON_GetObjectItemCaseSensitive(n, "normalizers");
        if (cJSON_GetArraySize(list) == 0) return GW_OK;
        n = cJSON_GetArraySize(list) == 1 ? list->child : n;
        type = gw_tokenizer_type(n);
    }
    if (strcmp(type, "NFC") != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "normalizer of type '%.64s', only NFC is supported", type);
    t->nfc = true;
    return GW_OK;
}

static gw_err_t add_split(struct gw_tokenizer *t, const char *pattern, struct gw_err_ctx *ctx)
{
    if (t->splits_len == GW_TOKENIZER_SPLITS_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "pre_tokenizer: more than %d splits", GW_TOKENIZER_SPLITS_MAX);
    gw_err_t err = gw_split_create(pattern, strlen(pattern), &t->splits[t->splits_len], ctx);
    if (err != GW_OK) return gw_fail_prefix(ctx, err, "pre_tokenizer");
    t->splits_len++;
    return GW_OK;
}

static gw_err_t load_split(struct gw_tokenizer *t, const cJSON *p, struct gw_err_ctx *ctx)
{
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(p, "pattern");
    const cJSON *regex = cJSON_GetObjectItemCaseSensitive(pattern, "Regex");
    const char *behavior = "";
    bool invert = false;
    TRY(gw_json_string(p, "behavior", &behavior, ctx));
    TRY(gw_json_bool(p, "invert", &invert, ctx));
    if (strcmp(behavior, "Isolated") != 0 || invert)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "pre_tokenizer: only Split with behavior Isolated, not inverted, is "
                       "supported");
    if (!cJSON_IsString(regex))
        return gw_fail(ctx, GW_ERR_INPUT, "pre_tokenizer: Split without pattern.Regex is not supported");
    return add_split(t, regex->valuestring, ctx);
}

/* Digits is a Split by another name. */
static gw_err_t load_digits(struct gw_tokenizer *t, const cJSON *p, struct gw_err_ctx *ctx)
{
    bool individual = false;
    TRY(gw_json_bool(p, "individual_digits", &individual, ctx));
    return add_split(t, individual ? "\\p{N}" : "\\p{N}+", ctx);
}

static gw_err_t load_byte_level(struct gw_tokenizer *t, const cJSON *p, struct gw_err_ctx *ctx)
{
    bool use_regex = true;
    t->prefix_space = true;
    TRY(gw_json_bool(p, "add_prefix_space", &t->prefix_space, ctx));
    TRY(gw_json_bool(p, "use_regex", &use_regex, ctx));
    return use_regex ? gw_split_create(gpt2_pattern, sizeof gpt2_pattern - 1, &t->byte_split, ctx) : GW_OK;
}

/* ByteLevel turns text into bytes, so it must come, and last. */
static gw_err_t load_pre_tokenizer(struct gw_tokenizer *t, const cJSON *p, bool last, struct gw_err_ctx *ctx)
{
    const char *type = gw_tokenizer_type(p);
    bool byte_level = strcmp(type, "ByteLevel") == 0;
    if (byte_level != last)
        return gw_fail(ctx, GW_ERR_INPUT, "pre_tokenizer: ByteLevel must be there, once, at the end");
    if (byte_level) return load_byte_level(t, p, ctx);
    if (strcmp(type, "Split") == 0) return load_split(t, p, ctx);
    if (strcmp(type, "Digits") == 0) return load_digits(t, p, ctx);
    return gw_fail(ctx, GW_ERR_INPUT, "pre_tokenizer of type '%.64s' is not supported", type);
}

gw_err_t gw_tokenizer_load_stages(struct gw_tokenizer *t, const cJSON *root, struct gw_err_ctx *ctx)
{
    TRY(load_normalizer(t, cJSON_GetObjectItemCaseSensitive(root, "normalizer"), ctx));
    const cJSON *p = cJSON_GetObjectItemCaseSensitive(root, "pre_tokenizer");
    if (strcmp(gw_tokenizer_type(p), "Sequence") != 0) return load_pre_tokenizer(t, p, true, ctx);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(p, "pretokenizers"), *item;
    if (cJSON_GetArraySize(list) == 0) return load_pre_tokenizer(t, NULL, true, ctx);
    cJSON_ArrayForEach(item, list) TRY(load_pre_tokenizer(t, item, item->next == NULL, ctx));
    return GW_OK;
}
