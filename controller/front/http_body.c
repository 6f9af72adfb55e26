#include "controller/front/http_body.h"

#include <stdlib.h>

bool gw_http_budget_count(struct gw_http_budget *budget, size_t *counted, size_t bytes)
{
    if (bytes > *counted && bytes - *counted > budget->max - budget->used) return false;
    budget->used = budget->used - *counted + bytes;
    *counted = bytes;
    return true;
}

struct gw_http_body gw_http_body_take(struct gw_buf *b, size_t *counted, struct gw_http_budget *budget)
{
    const struct gw_http_body taken = {.data = b->data, .len = b->len, .counted = *counted, .budget = budget};
    *b = (struct gw_buf){.max = b->max};
    *counted = 0;
    return taken;
}

void gw_http_body_fini(struct gw_http_body *body)
{
    if (body->budget) (void)gw_http_budget_count(body->budget, &body->counted, 0);
    free(body->data);
    *body = (struct gw_http_body){0};
}
