#include "worker/step_pace.h"

uint32_t gw_step_pace_rows(const struct gw_step_pace *pace, uint32_t decoding, uint32_t max)
{
    if (pace->target_us == 0) return max;
    const double least = decoding ? (double)decoding + GW_STEP_PACE_LEAST : GW_STEP_PACE_ALONE;
    double rows = pace->row_us > 0 ? (double)pace->target_us / pace->row_us : GW_STEP_PACE_FIRST;
    if (rows < least) rows = least;
    return rows < (double)max ? (uint32_t)rows : max;
}

void gw_step_pace_measured(struct gw_step_pace *pace, uint32_t rows, uint64_t us)
{
    double cost = (double)us / rows;
    if (rows < GW_STEP_PACE_LEAST || us == 0) return; /* reading weights is most of it */
    if (pace->row_us <= 0)
        pace->row_us = cost;
    else if (cost < pace->row_us)
        pace->row_us += (cost - pace->row_us) / 2;
    else
        pace->row_us += ((cost < 2 * pace->row_us ? cost : 2 * pace->row_us) - pace->row_us) / 4;
}
