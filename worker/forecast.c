#include "worker/forecast.h"

#include "migrate/block_name.h"

#define KEEP          0.8  /* of the last estimate: an estimate follows the last five or so */
#define PULL_US_GUESS 2000 /* before one was measured: a handshake and a round trip per rank and holder */
#define SMALL_BLOCKS  64   /* a pull of fewer says what a round trip costs, not what a byte costs */

double gw_forecast_fetch_us(const struct gw_forecast *f, uint32_t tokens)
{
    double blocks = (double)tokens / GW_BLOCK_TOKENS;
    return f->pull_bytes_us > 0 ? blocks * (double)f->block_bytes / f->pull_bytes_us : 0;
}

double gw_forecast_compute_us(const struct gw_forecast *f, uint32_t tokens)
{
    return f->rows_us > 0 ? (double)tokens / f->rows_us : 0;
}

bool gw_forecast_prefers_fetch(const struct gw_forecast *f, uint32_t tokens, double ahead_us, int64_t now_us)
{
    if (tokens == 0) return false;
    if (f->always || f->rows_us == 0) return true;
    double pull_us = f->pull_us > 0 ? f->pull_us : PULL_US_GUESS;
    double line_us = f->computed_us > now_us ? (double)(f->computed_us - now_us) : 0;
    return ahead_us + pull_us + gw_forecast_fetch_us(f, tokens) < line_us + gw_forecast_compute_us(f, tokens);
}

void gw_forecast_leave(struct gw_forecast *f, uint32_t tokens, int64_t now_us)
{
    if (f->computed_us < now_us) f->computed_us = now_us;
    f->computed_us += (int64_t)gw_forecast_compute_us(f, tokens);
}

static double blend(double old, double now)
{
    return old == 0 ? now : KEEP * old + (1 - KEEP) * now;
}

void gw_forecast_pulled(struct gw_forecast *f, uint32_t blocks, int64_t us)
{
    if (blocks == 0 || us <= 0) return;
    if (blocks < SMALL_BLOCKS)
        f->pull_us = blend(f->pull_us, (double)us);
    else
        f->pull_bytes_us = blend(f->pull_bytes_us, (double)blocks * (double)f->block_bytes / (double)us);
}

void gw_forecast_computed(struct gw_forecast *f, uint32_t rows, int64_t us)
{
    if (rows >= GW_FORECAST_ROWS_MIN && us > 0) f->rows_us = blend(f->rows_us, (double)rows / (double)us);
}
