/* Memory for request bodies, shared by all connections of a server: many large bodies at once are refused, whoever
 * sends them.
 *
 * Owner: the server has the budget, which outlives connections and bodies; a body belongs to who took it.
 * Thread: the loop's. Units: bytes. Errors: answers only. Source: own design; DESIGN part 10. */
#ifndef GW_CONTROLLER_HTTP_BODY_H
#define GW_CONTROLLER_HTTP_BODY_H

#include "base/buf.h"

struct gw_http_budget {
    size_t used, max;
};

/* Lets *counted, a part of used, become bytes. False, and nothing changes, if that passes max. */
bool gw_http_budget_count(struct gw_http_budget *budget, size_t *counted, size_t bytes);

/* A body that was taken out of its connection. It counts until gw_http_body_fini. */
struct gw_http_body {
    uint8_t *data;
    size_t len, counted;
    struct gw_http_budget *budget;
};

/* Moves b and what was counted for it into the result. */
struct gw_http_body gw_http_body_take(struct gw_buf *b, size_t *counted, struct gw_http_budget *budget);
void gw_http_body_fini(struct gw_http_body *body);

#endif
