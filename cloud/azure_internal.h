/* What Azure's files share (azure.c, azure_prices.c). */
#ifndef GW_CLOUD_AZURE_INTERNAL_H
#define GW_CLOUD_AZURE_INTERNAL_H

#include "cloud/answer_internal.h"

/* A whole URL of Azure's own ("": none): only its path is followed, at the address that we know. */
gw_err_t azure_take_next(const char *link, struct gw_cloud_answer *a, struct gw_err_ctx *ctx);

/* The question SPOT_PRICES, at another address than all others: without credentials. */
gw_err_t azure_prices_write(const struct gw_cloud_place *place, const struct gw_cloud_ask *ask,
                            const char *page, struct gw_cloud_http *out, struct gw_err_ctx *ctx);
gw_err_t azure_prices_read(const cJSON *tree, struct gw_cloud_answer *a, struct gw_err_ctx *ctx);

#endif
