#include "worker/resync.h"

#include "base/clock.h"
#include "worker/member.h"

#define PROTO_RESYNC 6 /* the first protocol that has it */

void gw_resync_note(struct gw_resync *r, const struct gw_engine *engine)
{
    r->len = gw_engine_list(engine, r->requests, GW_WIRE_RESYNC_MAX);
    r->until_us = gw_clock_mono_us() + GW_MEMBER_LEASE_US;
}

void gw_resync_tell(struct gw_resync *r, struct gw_link *link, uint64_t session, uint16_t proto,
                    const struct gw_log *log)
{
    struct gw_msg msg = {.type = GW_MSG_RESYNC, .resync = {.count = r->len, .requests = r->requests}};
    if (r->len > 0 && proto >= PROTO_RESYNC && gw_clock_mono_us() < r->until_us) {
        gw_link_send(link, session, &msg);
        gw_logf(log, GW_LOG_INFO, "RESYNC: %u requests ran here, their pages are kept", r->len);
    }
    r->len = 0;
}
