/* What instances cost: spot prices from the cloud where it tells them, else what the operator said. */
#include "controller/capacity_internal.h"

#include <stdlib.h>
#include <string.h>

gw_err_t capacity_prices_copy(const struct capacity_prices *from, struct capacity_prices *to)
{
    *to = (struct capacity_prices){.list = calloc(from->len + 1, sizeof *to->list), .len = from->len};
    if (!to->list) return GW_ERR_MEMORY;
    if (from->len) memcpy(to->list, from->list, from->len * sizeof *to->list);
    return GW_OK;
}

/* In its zone; where that is not told, the first of its type. NULL: the cloud does not tell. */
static const struct gw_cloud_price *told_of(const struct capacity_prices *p,
                                            const struct gw_cloud_instance *in)
{
    const struct gw_cloud_price *found = NULL;
    for (size_t i = 0; p && i < p->len; i++) {
        if (strcmp(p->list[i].type, in->type) != 0) continue;
        if (strcmp(p->list[i].zone, in->zone) == 0) return &p->list[i];
        if (!found) found = &p->list[i];
    }
    return found;
}

_Static_assert(GW_CAPACITY_VIEW_ID == GW_CLOUD_INSTANCE_MAX, "an id is shown whole");

static double price_of(const struct capacity_price_sources *s, const struct gw_cloud_instance *in)
{
    const struct gw_cloud_price *told = told_of(s->told, in);
    double usd_h = s->default_usd_h;
    if (told) return told->usd_h;
    (void)gw_price_file_find(s->file, s->spot, in->type, in->zone, &usd_h);
    return usd_h;
}

double capacity_cost(const struct capacity_price_sources *s, const struct gw_cloud_answer *a,
                     struct gw_capacity_view_instance *shown, size_t *shown_len)
{
    double usd_h = 0;
    *shown_len = 0;
    for (size_t i = 0; i < a->instances_len; i++) {
        const struct gw_cloud_instance *in = &a->instances[i];
        if (in->state == GW_CLOUD_ENDING) continue;
        double price = price_of(s, in);
        usd_h += price;
        if (*shown_len == GW_CAPACITY_VIEW_SHOWN) continue;
        struct gw_capacity_view_instance *v = &shown[(*shown_len)++];
        *v = (struct gw_capacity_view_instance){
            .spot = s->spot, .pending = in->state == GW_CLOUD_PENDING, .usd_h = price};
        memcpy(v->id, in->id, sizeof v->id);
        memcpy(v->zone, in->zone, sizeof v->zone);
    }
    return usd_h;
}

static bool knows_type(const struct gw_capacities *c, const char *type)
{
    for (size_t i = 0; i < c->types_len; i++)
        if (strcmp(c->types[i], type) == 0) return true;
    return false;
}

void capacity_note_types(struct gw_capacities *c, const char types[][64], size_t len)
{
    for (size_t i = 0; i < len && c->types_len < GW_CLOUD_TYPES_MAX - 1; i++) {
        if (types[i][0] == '\0' || knows_type(c, types[i]) || c->prices_asked) continue;
        memcpy(c->types[c->types_len++], types[i], sizeof c->types[0]);
        c->prices_due_us = 0; /* its price is asked for now */
    }
}

static void on_prices(void *arg, gw_err_t err, const char *text, struct gw_cloud_answer *answer)
{
    struct gw_capacities *c = arg;
    c->prices_asked = false;
    if (err == GW_ERR_NOT_FOUND || c->stopped) {
        c->prices_none = true;
        return;
    }
    if (err != GW_OK) {
        gw_logf(c->config.log, GW_LOG_WARN, "capacity: prices are not known: %s", text);
        return;
    }
    free(c->prices.list);
    c->prices = (struct capacity_prices){.list = answer->prices, .len = answer->prices_len};
    answer->prices = NULL;
    answer->prices_len = 0;
}

void capacity_ask_prices(struct gw_capacities *c, int64_t now_us)
{
    if (c->prices_none || c->prices_asked || now_us < c->prices_due_us || c->types_len == 0) return;
    c->prices_ask = (struct gw_cloud_ask){.question = GW_CLOUD_SPOT_PRICES};
    for (size_t i = 0; i < c->types_len; i++) c->prices_ask.types[i] = c->types[i];
    c->prices_due_us = now_us + GW_CAPACITY_PRICES_US;
    c->prices_asked = gw_calls_start(c->config.calls, &c->prices_ask, on_prices, c) == GW_OK;
}
