#include "base/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/hash.h"

void gw_rng_init(struct gw_rng *r, uint64_t seed)
{
    r->state = gw_mix64(seed);
}

uint64_t gw_rng_next(struct gw_rng *r)
{
    r->state += 0x9E3779B97F4A7C15u;
    return gw_mix64(r->state);
}

uint64_t gw_rng_below(struct gw_rng *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)gw_rng_next(r) * n) >> 64);
}

double gw_rng_unit(struct gw_rng *r)
{
    return (double)(gw_rng_next(r) >> 11) * 0x1p-53;
}

void gw_random_bytes(void *out, size_t len)
{
    unsigned char *p = out;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) abort();
        p += n;
        len -= (size_t)n;
    }
}
