/* The 16 virtual lanes in plain C: lane = index mod 16, each lane ascending, then folded 8, 4, 2, 1.
 *
 * Owner: the caller's lanes. Thread: safe. Units: lanes. Errors: none. Source: own design. */
#ifndef GW_KERNELS_CPU_SIMD_C_H
#define GW_KERNELS_CPU_SIMD_C_H

#define GW_LANES 16

static inline float gw_fold_sum_c(float lanes[GW_LANES])
{
    for (int width = GW_LANES / 2; width >= 1; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

static inline float gw_max_c(float a, float b)
{
    return a > b ? a : b;
}

static inline float gw_fold_max_c(float lanes[GW_LANES])
{
    for (int width = GW_LANES / 2; width >= 1; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] = gw_max_c(lanes[i], lanes[i + width]);
    return lanes[0];
}

#endif
