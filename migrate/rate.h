/* Rate: a limit on bytes per second, by debt: bytes go when all that went before is paid for.
 *
 * So the first bytes after a pause go at once, however many they are, and over any longer time no more go than
 * bytes_s × time + those. Senders that wait for the same due time may go together; what each of them sends is then owed.
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
    double rest_us; /* [0, 1): owed, too; small pieces at high rates would else cost nothing */
};

#define GW_RATE_DEBT_US                                                                                      \
    (GW_US_PER_S * 86400) /* one charge owes a day at most: a limit of a byte a second is none of use */

/* These bytes go now. What was not used before now is not saved up. */
static inline void gw_rate_charge(struct gw_rate *r, size_t bytes, int64_t now_us)
{
    if (r->bytes_s <= 0) return;
    if (r->due_us < now_us) {
        r->due_us = now_us;
        r->rest_us = 0;
    }
    double owed_us = (double)bytes / r->bytes_s * (double)GW_US_PER_S + r->rest_us;
    if (owed_us > (double)GW_RATE_DEBT_US) owed_us = (double)GW_RATE_DEBT_US;
    r->due_us += (int64_t)owed_us;
    r->rest_us = owed_us - (double)(int64_t)owed_us;
}

#endif
