/* Workers that do not reach each other, and for how long no pipeline gets both.
 *
 *     a pair fails        it is apart for GW_APART_FIRST_US; each time it fails again twice as long, GW_APART_MOST_US at most
 *     its time is over    it may be planned together again: networks are mended
 *     not failed again    forgotten GW_APART_MOST_US after that
 *
 * Owner: plain data; zeros are none. Thread: one. Units: microseconds. Errors: none; where there is no room, the pair that
 * failed longest ago is forgotten. Source: own design. */
#ifndef GW_CONTROLLER_LAYOUT_APART_H
#define GW_CONTROLLER_LAYOUT_APART_H

#include <stdint.h>

#include "base/clock.h"
#include "migrate/plan.h"
#include "migrate/wire.h"

/* A pipeline that fails for it takes GW_MESH_REACH_S: one try in four is the most that a pair may cost. */
#define GW_APART_FIRST_US (60 * GW_US_PER_S)
#define GW_APART_MOST_US  (3600 * GW_US_PER_S)

struct gw_apart {
    char worker[2][GW_WIRE_NAME_MAX + 1];
    uint32_t times;
    int64_t until_us; /* apart until then */
};

struct gw_aparts {
    struct gw_apart pairs[GW_PLAN_APART_MAX];
    uint32_t len;
};

void gw_aparts_add(struct gw_aparts *aparts, const char *worker, const char *other, int64_t now_us);

/* When the first of those that are apart now will not be any more; INT64_MAX: none is. */
int64_t gw_aparts_end_us(const struct gw_aparts *aparts, int64_t now_us);

#endif
