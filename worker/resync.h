/* Resync: tells a controller which requests ran at this worker when its last session ended, so that they come back to their pages.
 *
 *     event                             what is done
 *     ───────────────────────────────   ──────────────────────────────────────────────────────────────
 *     a session ends, requests ran      they are noted; their pages stay for GW_MEMBER_LEASE_US (shelf.h)
 *     a session begins within that      RESYNC, once: whichever controller it is may have them from its journal
 *     the message is lost               so is the session: the requests go anywhere, and find their pages by name
 *
 * Owner: plain data. Thread: the engine's. Units: microseconds. Errors: none: it is a hint. Source: own design; DESIGN part 6. */
#ifndef GW_WORKER_RESYNC_H
#define GW_WORKER_RESYNC_H

#include "worker/engine.h"
#include "worker/link.h"

struct gw_resync {
    uint64_t requests[GW_WIRE_RESYNC_MAX];
    uint32_t len;
    int64_t until_us;
};

/* The session is over, and with it what the engine runs. */
void gw_resync_note(struct gw_resync *r, const struct gw_engine *engine);

/* The session has begun; it speaks protocol `proto`. */
void gw_resync_tell(struct gw_resync *r, struct gw_link *link, uint64_t session, uint16_t proto,
                    const struct gw_log *log);

#endif
