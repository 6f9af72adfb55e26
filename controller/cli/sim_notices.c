#include "controller/cli/sim_notices.h"

#include <string.h>

#include "base/clock.h"

static const char *const names[SIM_NOTICE_KINDS] = {"preempt", "rebalance", "maintenance"};

const char *sim_notice_name(enum sim_notice_kind kind)
{
    return names[kind];
}

bool sim_notice_find(const char *name, enum sim_notice_kind *out)
{
    for (int k = 0; k < SIM_NOTICE_KINDS; k++) {
        if (strcmp(names[k], name) != 0) continue;
        *out = (enum sim_notice_kind)k;
        return true;
    }
    return false;
}

void sim_notices_add(struct sim_notices *n, const struct sim_notice *notice)
{
    n->ring[n->sequence++ % SIM_NOTICES_MAX] = *notice;
}

static void put_one(const struct sim_notice *n, int64_t now_us, struct gw_buf *b)
{
    int64_t left_us = n->deadline_us > now_us ? n->deadline_us - now_us : 0;
    gw_buf_printf(b, "{\"kind\":\"%s\",", names[n->kind]);
    if (n->cancel)
        gw_buf_puts(b, "\"cancel\":true}");
    else
        gw_buf_printf(b, "\"deadline_in_s\":%.3f}", (double)left_us / (double)GW_US_PER_S);
}

void sim_notices_put(const struct sim_notices *n, uint32_t after, int64_t now_us, struct gw_buf *b)
{
    uint32_t kept = n->sequence < SIM_NOTICES_MAX ? n->sequence : SIM_NOTICES_MAX;
    uint32_t first = n->sequence - kept;
    if (after > first) first = after;
    gw_buf_printf(b, "{\"sequence\":%u,\"notices\":[", n->sequence);
    for (uint32_t i = first; i < n->sequence; i++) {
        if (i > first) gw_buf_u8(b, ',');
        put_one(&n->ring[i % SIM_NOTICES_MAX], now_us, b);
    }
    gw_buf_puts(b, "]}");
}
