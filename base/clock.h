/* Clock: the monotonic clock behind an interface, so that tests and the simulator own the time.
 *
 * All deadlines are absolute, on the monotonic clock, in microseconds (int64_t, suffix _us). Zero is "none".
 *
 * Owner: plain values. Thread: safe. Errors: none. Source: own design. */
#ifndef GW_BASE_CLOCK_H
#define GW_BASE_CLOCK_H

#include <stdint.h>

struct gw_clock {
    int64_t (*now_us)(void *arg);
    void *arg;
};

#define GW_US_PER_MS ((int64_t)1000)
#define GW_US_PER_S  ((int64_t)1000000)

/* The machine's monotonic clock. */
int64_t gw_clock_mono_us(void);

/* Seconds since 1970 (for "created" fields and terms only; never for deadlines). */
int64_t gw_clock_unix_s(void);
/* The same in milliseconds (for what people read). */
int64_t gw_clock_unix_ms(void);

/* A gw_clock over gw_clock_mono_us. */
struct gw_clock gw_clock_mono(void);

#endif
