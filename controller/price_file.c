#include "controller/price_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define USD_H_MAX 1e6

static gw_err_t read_name(const cJSON *item, const char *field, char out[GW_PRICE_NAME_MAX],
                          struct gw_err_ctx *ctx)
{
    const char *text = NULL;
    TRY(gw_json_string(item, field, &text, ctx));
    if (!text) return GW_OK;
    if (strlen(text) >= GW_PRICE_NAME_MAX)
        return gw_fail(ctx, GW_ERR_PROTO, "'%s': at most %d bytes", field, GW_PRICE_NAME_MAX - 1);
    snprintf(out, GW_PRICE_NAME_MAX, "%s", text);
    return GW_OK;
}

static gw_err_t read_row(const cJSON *item, struct gw_price_row *row, struct gw_err_ctx *ctx)
{
    const char *market = NULL;
    *row = (struct gw_price_row){.usd_h = -1};
    TRY(gw_json_string(item, "market", &market, ctx));
    row->spot = market && strcmp(market, "spot") == 0;
    if (!row->spot && (!market || strcmp(market, "on-demand") != 0))
        return gw_fail(ctx, GW_ERR_PROTO, "'market' must be spot or on-demand");
    TRY(read_name(item, "type", row->type, ctx));
    TRY(read_name(item, "zone", row->zone, ctx));
    TRY(gw_json_double(item, "usd_h", 0, USD_H_MAX, &row->usd_h, ctx));
    if (row->usd_h < 0) return gw_fail(ctx, GW_ERR_PROTO, "'usd_h' is missing");
    return GW_OK;
}

static gw_err_t read_rows(const cJSON *list, struct gw_price_file *f, struct gw_err_ctx *ctx)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        gw_err_t err = read_row(item, &f->rows[f->len], ctx);
        if (err != GW_OK) return gw_fail_prefix(ctx, err, "price %zu", f->len + 1);
        f->len++;
    }
    return GW_OK;
}

static gw_err_t read_tree(const cJSON *tree, struct gw_price_file *f, struct gw_err_ctx *ctx)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "prices");
    if (!cJSON_IsArray(list)) return gw_fail(ctx, GW_ERR_PROTO, "there is no list of 'prices'");
    int len = cJSON_GetArraySize(list);
    if (len > GW_PRICE_ROWS_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "%d prices, at most %d", len, GW_PRICE_ROWS_MAX);
    f->rows = calloc((size_t)len + 1, sizeof *f->rows);
    if (!f->rows) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    return read_rows(list, f, ctx);
}

gw_err_t gw_price_file_read(const char *path, struct gw_price_file *out, struct gw_err_ctx *ctx)
{
    struct gw_price_file f = {0};
    cJSON *tree = NULL;
    gw_err_t err = gw_json_parse_file(path, GW_PRICE_FILE_BYTES_MAX, &tree, ctx);
    if (err != GW_OK) return err;
    err = read_tree(tree, &f, ctx);
    cJSON_Delete(tree);
    if (err != GW_OK) {
        gw_price_file_fini(&f);
        return gw_fail_prefix(ctx, err, "%s", path);
    }
    *out = f;
    return GW_OK;
}

void gw_price_file_fini(struct gw_price_file *f)
{
    free(f->rows);
    *f = (struct gw_price_file){0};
}

/* 0: it does not fit; else the higher the more of the instance it names. */
static int fit(const struct gw_price_row *r, bool spot, const char *type, const char *zone)
{
    bool type_ok = !r->type[0] || !type[0] || strcmp(r->type, type) == 0;
    bool zone_ok = !r->zone[0] || strcmp(r->zone, zone) == 0;
    if (r->spot != spot || !type_ok || !zone_ok) return 0;
    return 1 + (r->zone[0] ? 1 : 0) + (r->type[0] ? 2 : 0);
}

bool gw_price_file_find(const struct gw_price_file *f, bool spot, const char *type, const char *zone,
                        double *usd_h)
{
    int best = 0;
    for (size_t i = 0; i < f->len; i++) {
        int n = fit(&f->rows[i], spot, type, zone);
        if (n <= best) continue;
        best = n;
        *usd_h = f->rows[i].usd_h;
    }
    return best > 0;
}
