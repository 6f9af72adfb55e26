#include "base/clock.h"

#include <stddef.h>
#include <time.h>

int64_t gw_clock_mono_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * GW_US_PER_S + t.tv_nsec / 1000;
}

int64_t gw_clock_unix_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec;
}

int64_t gw_clock_unix_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t mono_now(void *arg)
{
    (void)arg;
    return gw_clock_mono_us();
}

struct gw_clock gw_clock_mono(void)
{
    return (struct gw_clock){mono_now, NULL};
}
