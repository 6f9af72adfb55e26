/* Rate: a limit on bytes per second, by debt: bytes go when all that went before is paid for.
 *
 * Owner: caller memory. Thread: one at a time. Units: bytes, microseconds. Errors: none. Source: own design, after the
 * virtual scheduling algorithm of ITU-T I.371. */
#ifndef GW_MIGRATE_RATE_H
#define GW_MIGRATE_RATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

struct gw_rate {
    double bytes_s; /* 0: no limit */
    int64_t due_us; /* when the next bytes may go */
};

/* These bytes go now. What was not used before now is not saved up. */
static inline void gw_rate_charge(struct gw_rate *r, size_t bytes, int64_t now_us)
{
    if (r->bytes_s <= 0) return;
    if (r->due_us < now_us) r->due_us = now_us;
    r->due_us += (int64_t)((double)bytes / r->bytes_s * (double)GW_US_PER_S);
}

#endif
