/* Random numbers of a test: another seed each time, printed; GW_TEST_SEED=... replays a run. */
#ifndef GW_TESTS_SEEDED_RNG_H
#define GW_TESTS_SEEDED_RNG_H

#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"

static inline uint64_t test_seed(const char *test)
{
    const char *given = getenv("GW_TEST_SEED");
    uint64_t seed;
    gw_random_bytes(&seed, sizeof seed);
    if (given) seed = strtoull(given, NULL, 0);
    printf("# %s: GW_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    fflush(stdout); /* before a sanitizer ends the process */
    return seed;
}

static inline struct gw_rng seeded_rng(const char *test)
{
    struct gw_rng r;
    gw_rng_init(&r, test_seed(test));
    return r;
}

#endif
