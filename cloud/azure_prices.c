/* What Azure's spot machines cost: the Retail Prices API, which is open to all and knows regions, not zones.
 *
 * An item is a spot price of ours if its skuName ends with " Spot" and its product is not one with Windows; one of each type,
 * with the region in the place of the zone. Source: Azure REST API, "Azure Retail Prices" 2023-01-01-preview (names in
 * filters are case-sensitive). */
#include "cloud/azure_internal.h"

#include <ctype.h>
#include <string.h>

#define PRICES_BASE "https://prices.azure.com"
#define PRICES_PATH "/api/retail/prices?api-version=2023-01-01-preview&$filter="
#define SPOT        " Spot"
#define USD_H_MAX   10000.0

/* Between quotes of a filter it stays what it is. */
static bool name_ok(const char *name)
{
    size_t len = name ? strlen(name) : 0;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '_' && name[i] != '-') return false;
    return len > 0 && len < 64;
}

static gw_err_t put_filter(const char *region, const struct gw_cloud_ask *ask, struct gw_buf *path,
                           struct gw_err_ctx *ctx)
{
    struct gw_buf filter;
    gw_buf_init(&filter, ANSWER_PATH_MAX);
    gw_buf_printf(
        &filter,
        "serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq '%s' and (",
        region);
    uint32_t names = 0;
    for (uint32_t i = 0; i < GW_CLOUD_TYPES_MAX && ask->types[i]; i++)
        if (name_ok(ask->types[i]))
            gw_buf_printf(&filter, "%sarmSkuName eq '%s'", names++ ? " or " : "", ask->types[i]);
    gw_buf_puts(&filter, ")");
    const char *text = gw_buf_cstr(&filter);
    if (text) {
        gw_buf_puts(path, PRICES_PATH);
        answer_put_escaped(path, text);
    }
    gw_buf_fini(&filter);
    return text && names ? GW_OK : gw_fail(ctx, GW_ERR_INPUT, "azure: spot prices: no type, or too many");
}

gw_err_t azure_prices_write(const struct gw_cloud_place *place, const struct gw_cloud_ask *ask,
                            const char *page, struct gw_cloud_http *out, struct gw_err_ctx *ctx)
{
    static const struct gw_cloud_credentials nobody; /* a token is not for this service */
    struct gw_buf path;
    gw_err_t err = GW_OK;
    if (!name_ok(place->region))
        return gw_fail(ctx, GW_ERR_NOT_FOUND, "azure: prices are asked for with --cloud-region");
    gw_buf_init(&path, ANSWER_PATH_MAX);
    if (page[0] == '/')
        gw_buf_puts(&path, page);
    else
        err = put_filter(place->region, ask, &path, ctx);
    if (err == GW_OK) err = answer_request(PRICES_BASE, "GET", &path, place, &nobody, out, ctx);
    gw_buf_fini(&path);
    return err;
}

static bool is_spot(const cJSON *item)
{
    const char *name = answer_text(item, "skuName");
    size_t len = strlen(name);
    return len >= strlen(SPOT) && strcmp(name + len - strlen(SPOT), SPOT) == 0 &&
           !strstr(answer_text(item, "productName"), "Windows");
}

static bool is_there(const struct gw_cloud_answer *a, const struct gw_cloud_price *p)
{
    for (size_t i = 0; i < a->prices_len; i++)
        if (strcmp(a->prices[i].type, p->type) == 0 && strcmp(a->prices[i].zone, p->zone) == 0) return true;
    return false;
}

static gw_err_t add_price(const cJSON *item, struct gw_cloud_answer *a, struct gw_err_ctx *ctx)
{
    struct gw_cloud_price p = {0};
    if (!is_spot(item)) return GW_OK;
    TRY(gw_json_double(item, "retailPrice", 0, USD_H_MAX, &p.usd_h, ctx));
    if (strcmp(answer_text(item, "currencyCode"), "USD") != 0 ||
        strcmp(answer_text(item, "unitOfMeasure"), "1 Hour") != 0 ||
        !answer_copy(p.type, sizeof p.type, answer_text(item, "armSkuName")) ||
        !answer_copy(p.zone, sizeof p.zone, answer_text(item, "armRegionName")))
        return gw_fail(ctx, GW_ERR_PROTO, "a price that is none");
    if (p.usd_h <= 0 || is_there(a, &p)) return GW_OK;
    if (answer_grow((void **)&a->prices, &a->prices_cap, a->prices_len, GW_CLOUD_PRICES_MAX,
                    sizeof *a->prices) != GW_OK)
        return gw_fail(ctx, GW_ERR_LIMIT, "too many prices");
    a->prices[a->prices_len++] = p;
    return GW_OK;
}

gw_err_t azure_prices_read(const cJSON *tree, struct gw_cloud_answer *a, struct gw_err_ctx *ctx)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "Items"), *item;
    if (!cJSON_IsArray(list)) return gw_fail(ctx, GW_ERR_PROTO, "no list of prices");
    cJSON_ArrayForEach(item, list) TRY(add_price(item, a, ctx));
    return azure_take_next(answer_text(tree, "NextPageLink"), a, ctx);
}
