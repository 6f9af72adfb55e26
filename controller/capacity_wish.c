#include "controller/capacity_wish.h"

static uint32_t max_of(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

void gw_capacity_wish_init(struct gw_capacity_wish *w, uint32_t spare, int64_t shrink_us)
{
    *w = (struct gw_capacity_wish){
        .spare = spare, .shrink_us = shrink_us, .lower_since_us = -1, .queued_since_us = -1};
}

static uint32_t queue_needs(struct gw_capacity_wish *w, int64_t now_us, const struct gw_capacity_demand *d)
{
    if (d->queued == 0) {
        w->queued_since_us = -1;
        return 0;
    }
    if (w->queued_since_us < 0) w->queued_since_us = now_us;
    return now_us - w->queued_since_us >= GW_CAPACITY_QUEUE_US ? d->serving + 1 : 0;
}

static void steady(struct gw_capacity_wish *w, int64_t now_us, uint32_t value)
{
    if (value >= w->steady) {
        w->steady = value;
        w->lower_since_us = -1;
        return;
    }
    if (w->lower_since_us < 0) {
        w->lower_since_us = now_us;
        w->lower_max = value;
    }
    w->lower_max = max_of(w->lower_max, value);
    if (now_us - w->lower_since_us < w->shrink_us) return;
    w->steady = w->lower_max;
    w->lower_since_us = -1;
}

uint32_t gw_capacity_wish_step(struct gw_capacity_wish *w, int64_t now_us, const struct gw_capacity_demand *d)
{
    uint32_t need = d->need ? d->need : max_of(d->serving, 1);
    steady(w, now_us, max_of(need, queue_needs(w, now_us, d)) + w->spare);
    return w->steady + (d->serving < w->steady ? d->leaving : 0);
}
