#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json_lex.h"
#include "base/utf8.h"

/* 1e999 parses to infinity in cJSON; "NaN" does not parse. The recursion is as deep as the tree, which is
 * bounded. */
static bool numbers_finite(const cJSON *node)
{
    for (; node; node = node->next) {
        if (cJSON_IsNumber(node) && !isfinite(node->valuedouble)) return false;
        if (node->child && !numbers_finite(node->child)) return false;
    }
    return true;
}

static gw_err_t parse_bounded(const char *text, size_t len, cJSON **out, struct gw_err_ctx *ctx)
{
    const char *end = NULL;
    cJSON *tree = cJSON_ParseWithLengthOpts(text, len, &end, false);
    if (!tree) {
        size_t at = end ? (size_t)(end - text) : 0;
        return gw_fail(ctx, GW_ERR_INPUT, "not valid JSON at byte %zu", at);
    }
    while (end < text + len && strchr(" \t\r\n", *end)) end++;
    if (end != text + len) {
        cJSON_Delete(tree);
        return gw_fail(ctx, GW_ERR_INPUT, "not valid JSON: bytes behind the end at %zu",
                       (size_t)(end - text));
    }
    if (!numbers_finite(tree)) {
        cJSON_Delete(tree);
        return gw_fail(ctx, GW_ERR_INPUT, "not valid JSON: a number is not finite");
    }
    *out = tree;
    return GW_OK;
}

gw_err_t gw_json_parse(const char *text, size_t len, size_t max_bytes, cJSON **out, struct gw_err_ctx *ctx)
{
    if (len > max_bytes)
        return gw_fail(ctx, GW_ERR_LIMIT, "JSON of %zu bytes, at most %zu are read", len, max_bytes);
    if (len == 0) return gw_fail(ctx, GW_ERR_INPUT, "not valid JSON: it is empty");
    if (memchr(text, '\0', len)) return gw_fail(ctx, GW_ERR_INPUT, "not valid JSON: a NUL byte");
    if (!gw_utf8_valid(text, len)) return gw_fail(ctx, GW_ERR_INPUT, "not valid JSON: not UTF-8");
    TRY(gw_json_lex_check(text, len, GW_JSON_DEPTH_MAX, ctx));
    return parse_bounded(text, len, out, ctx);
}

gw_err_t gw_json_parse_file(const char *path, size_t max_bytes, cJSON **out, struct gw_err_ctx *ctx)
{
    char *text = NULL;
    size_t len = 0;
    TRY(gw_file_read(path, max_bytes, &text, &len, ctx));
    gw_err_t err = gw_json_parse(text, len, max_bytes, out, ctx);
    if (err != GW_OK) gw_fail_prefix(ctx, err, "%s", path);
    free(text);
    return err;
}

static const cJSON *field_of(const cJSON *obj, const char *field)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(obj, field);
    return cJSON_IsNull(item) ? NULL : item;
}

gw_err_t gw_json_int(const cJSON *obj, const char *field, int64_t min, int64_t max, int64_t *out,
                     struct gw_err_ctx *ctx)
{
    const cJSON *item = field_of(obj, field);
    if (!item) return GW_OK;
    double v = item->valuedouble;
    if (!cJSON_IsNumber(item) || v != floor(v))
        return gw_fail(ctx, GW_ERR_INPUT, "'%s' must be an integer", field);
    if (v < (double)min || v > (double)max || v >= 9223372036854775808.0 || v < -9223372036854775808.0)
        return gw_fail(ctx, GW_ERR_INPUT, "'%s' must be between %lld and %lld", field, (long long)min,
                       (long long)max);
    *out = (int64_t)v;
    return GW_OK;
}

gw_err_t gw_json_double(const cJSON *obj, const char *field, double min, double max, double *out,
                        struct gw_err_ctx *ctx)
{
    const cJSON *item = field_of(obj, field);
    if (!item) return GW_OK;
    if (!cJSON_IsNumber(item)) return gw_fail(ctx, GW_ERR_INPUT, "'%s' must be a number", field);
    double v = item->valuedouble;
    if (!(v >= min && v <= max))
        return gw_fail(ctx, GW_ERR_INPUT, "'%s' must be between %g and %g", field, min, max);
    *out = v;
    return GW_OK;
}

gw_err_t gw_json_bool(const cJSON *obj, const char *field, bool *out, struct gw_err_ctx *ctx)
{
    const cJSON *item = field_of(obj, field);
    if (!item) return GW_OK;
    if (!cJSON_IsBool(item)) return gw_fail(ctx, GW_ERR_INPUT, "'%s' must be true or false", field);
    *out = cJSON_IsTrue(item);
    return GW_OK;
}

gw_err_t gw_json_string(const cJSON *obj, const char *field, const char **out, struct gw_err_ctx *ctx)
{
    const cJSON *item = field_of(obj, field);
    if (!item) return GW_OK;
    if (!cJSON_IsString(item)) return gw_fail(ctx, GW_ERR_INPUT, "'%s' must be a string", field);
    *out = item->valuestring;
    return GW_OK;
}

static void put_escaped(struct gw_buf *b, uint8_t c)
{
    switch (c) {
    case '"': gw_buf_puts(b, "\\\""); return;
    case '\\': gw_buf_puts(b, "\\\\"); return;
    case '\n': gw_buf_puts(b, "\\n"); return;
    case '\r': gw_buf_puts(b, "\\r"); return;
    case '\t': gw_buf_puts(b, "\\t"); return;
    default: gw_buf_printf(b, "\\u%04x", c);
    }
}

void gw_json_put_string(struct gw_buf *b, const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;
    gw_buf_u8(b, '"');
    for (size_t i = 0; i < len;) {
        int n = gw_utf8_sequence(p + i, len - i);
        if (n <= 0) {
            gw_buf_puts(b, "\xEF\xBF\xBD");
            i++;
            continue;
        }
        if (n == 1 && (p[i] < 0x20 || p[i] == '"' || p[i] == '\\' || p[i] == 0x7f))
            put_escaped(b, p[i]);
        else
            gw_buf_put(b, p + i, (size_t)n);
        i += (size_t)n;
    }
    gw_buf_u8(b, '"');
}
