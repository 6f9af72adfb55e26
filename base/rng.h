/* Random numbers: a small seeded generator for tests, jitter and the simulator, and the kernel's for secrets.
 *
 * Nothing that decides a token uses this: sampling is keyed (worker/sampler.h).
 * Owner: caller memory. Thread: one generator, one thread. Errors: gw_random_bytes aborts if the kernel
 * cannot (there is nothing sensible to do without). Source: splitmix64. */
#ifndef GW_BASE_RNG_H
#define GW_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct gw_rng {
    uint64_t state;
};

void gw_rng_init(struct gw_rng *r, uint64_t seed);
uint64_t gw_rng_next(struct gw_rng *r);
/* Uniform in [0, n), n >= 1. */
uint64_t gw_rng_below(struct gw_rng *r, uint64_t n);
/* Uniform in [0, 1). */
double gw_rng_unit(struct gw_rng *r);

/* Unpredictable bytes from the kernel. */
void gw_random_bytes(void *out, size_t len);

#endif
