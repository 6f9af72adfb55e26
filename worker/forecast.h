/* Forecast: is a request's KV there sooner if it is fetched, or if it is computed?
 *
 * Both are done beside each other, by the network and by the processor, and both have a line of those who came before. A
 * request goes where it is predicted to be done first:
 *
 *     fetched:   what is fetched before it + a round trip + its bytes / rate
 *     computed:  what was left to computing before it + its tokens / rate
 *
 * so of many requests that lose their worker at once, those that the network cannot serve in time are computed meanwhile.
 * Both rates are measured here, always; before one was, fetching is tried. What other workers fetch from the same holder
 * shows in the rate, not before; the budget of a pull (refill.h) bounds what a wrong prediction costs.
 *
 * Owner: plain data. Thread: one at a time. Units: tokens, blocks, rows, microseconds on the monotonic clock. Errors: none.
 * Source: own design (list scheduling over two machines, Graham 1966); DESIGN part 6. */
#ifndef GW_WORKER_FORECAST_H
#define GW_WORKER_FORECAST_H

#include <stdbool.h>
#include <stdint.h>

#define GW_FORECAST_ROWS_MIN 32 /* smaller steps say what a step costs, not what a row costs */

struct gw_forecast {
    uint64_t block_bytes; /* of all its pages, over all ranks */
    bool always;          /* fetch, whatever is predicted */
    /* measured; 0: not yet */
    double pull_us, pull_bytes_us, rows_us;
    int64_t computed_us; /* when what was left to computing is done */
};

/* Of so many tokens alone, without the round trip. 0: not known. */
double gw_forecast_fetch_us(const struct gw_forecast *f, uint32_t tokens);
double gw_forecast_compute_us(const struct gw_forecast *f, uint32_t tokens);

/* Is fetching them over sooner, with ahead_us of other fetching before? */
bool gw_forecast_prefers_fetch(const struct gw_forecast *f, uint32_t tokens, double ahead_us, int64_t now_us);
/* They are left to computing, behind those that were before. */
void gw_forecast_leave(struct gw_forecast *f, uint32_t tokens, int64_t now_us);

/* So many blocks came by one pull; so many rows were computed by one step. */
void gw_forecast_pulled(struct gw_forecast *f, uint32_t blocks, int64_t us);
void gw_forecast_computed(struct gw_forecast *f, uint32_t rows, int64_t us);

#endif
