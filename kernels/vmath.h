/* Elementary functions of our own: the same bits on every machine, compiler flag and libm.
 *
 * Only +, -, *, /, sqrt and fma (all correctly rounded) in a written order; so the twins in
 * kernels/cpu/simd.h, which run the same sequence on 16 lanes, give the same bits. The f32 functions
 * expect FTZ and DAZ (gw_device_enter_thread): a denormal argument counts as zero.
 *
 *     function   range                  error
 *     gw_expf    all; 0 below -87,      < 1 ulp    (e^-87 is the last whose result is a normal number, with
 * room) inf above 88.375 gw_logf    all; x <= 0: -inf/NaN  < 1 ulp gw_sin/cos |x| <= 1e6             < 2^-52
 * absolute gw_exp     |x| <= 700             < 2 ulp gw_log     normal x > 0           < 2 ulp gw_pow     x >
 * 0                  |y ln x| * 2 ulp
 *
 * (Errors are measured by tests/unit/test_kernels_vmath.c.)
 * Owner: plain values. Thread: safe. Errors: none. Source: ranges after Cody & Waite 1980; f32 polynomials of
 * Cephes (Moshier), sin and cos of fdlibm (Sun Microsystems), series for the f64 exp and log. */
#ifndef GW_KERNELS_VMATH_H
#define GW_KERNELS_VMATH_H

#include <math.h>

#include "kernels/convert.h"

/* x = n ln 2 + r, |r| <= ln(2)/2; ln 2 in two parts, of which the first has 9 bits so that n * hi is exact.
 */
#define GW_EXPF_MIN    (-87.0f)
#define GW_EXPF_MAX    88.375f
#define GW_EXPF_LOG2E  0x1.715476p+0f
#define GW_EXPF_LN2_HI 0x1.63p-1f
#define GW_EXPF_LN2_LO (-0x1.bd0106p-13f)
/* Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits. */
#define GW_F32_ROUNDER 0x1.8p+23f
#define GW_EXPF_P0     1.9875691500e-4f
#define GW_EXPF_P1     1.3981999507e-3f
#define GW_EXPF_P2     8.3334519073e-3f
#define GW_EXPF_P3     4.1665795894e-2f
#define GW_EXPF_P4     1.6666665459e-1f
#define GW_EXPF_P5     5.0000001201e-1f

/* For GW_EXPF_MIN <= x <= GW_EXPF_MAX: without branches, so that a loop over it becomes vectors. */
GW_BOTH static inline float gw_expf_inside(float x)
{
    float t = fmaf(x, GW_EXPF_LOG2E, GW_F32_ROUNDER);
    float n = t - GW_F32_ROUNDER;
    float r = fmaf(n, -GW_EXPF_LN2_HI, x);
    r = fmaf(n, -GW_EXPF_LN2_LO, r);
    float p = fmaf(GW_EXPF_P0, r, GW_EXPF_P1);
    p = fmaf(p, r, GW_EXPF_P2);
    p = fmaf(p, r, GW_EXPF_P3);
    p = fmaf(p, r, GW_EXPF_P4);
    p = fmaf(p, r, GW_EXPF_P5);
    p = fmaf(p, r * r, r) + 1.0f;
    return p * gw_f32_of_bits((gw_f32_bits(t) << 23) + 0x3F800000u);
}

GW_BOTH static inline float gw_expf(float x)
{
    float y = gw_expf_inside(x);
    if (x < GW_EXPF_MIN) y = 0.0f;
    if (x > GW_EXPF_MAX) y = gw_f32_of_bits(0x7F800000u);
    return y;
}

/* x / (1 + e^-x) */
GW_BOTH static inline float gw_siluf(float x)
{
    return x / (1.0f + gw_expf(-x));
}

/* 1 / sqrt(sum / k + eps) */
GW_BOTH static inline float gw_rms_inverse(float sum, uint32_t k, float eps)
{
    return 1.0f / sqrtf(sum / (float)k + eps);
}

GW_BOTH static inline float gw_logf(float x)
{
    uint32_t bits = gw_f32_bits(x);
    if (bits - 0x00800000u >= 0x7F000000u) { /* not a positive normal number */
        if ((bits & 0x7F800000u) == 0) return gw_f32_of_bits(0xFF800000u);
        return bits >> 31 ? gw_f32_of_bits(0x7FC00000u) : x; /* NaN below 0; inf and NaN stay */
    }
    /* x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)) */
    uint32_t shifted = bits - 0x3F3504F3u;
    float e = (float)((int32_t)shifted >> 23);
    float f = gw_f32_of_bits((shifted & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
    float p = fmaf(7.0376836292e-2f, f, -1.1514610310e-1f);
    p = fmaf(p, f, 1.1676998740e-1f);
    p = fmaf(p, f, -1.2420140846e-1f);
    p = fmaf(p, f, 1.4249322787e-1f);
    p = fmaf(p, f, -1.6668057665e-1f);
    p = fmaf(p, f, 2.0000714765e-1f);
    p = fmaf(p, f, -2.4999993993e-1f);
    p = fmaf(p, f, 3.3333331174e-1f);
    float f2 = f * f;
    float tail = fmaf(e, GW_EXPF_LN2_LO, p * f * f2);
    tail = fmaf(f2, -0.5f, tail);
    return fmaf(e, GW_EXPF_LN2_HI, f + tail);
}

#define GW_F64_ROUNDER 0x1.8p+52

GW_BOTH static inline uint64_t gw_f64_bits(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

GW_BOTH static inline double gw_f64_of_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* sin and cos of r, |r| <= pi/4 */
GW_BOTH static inline double gw_sin_poly(double r)
{
    double z = r * r;
    double p = fma(1.58969099521155010221e-10, z, -2.50507602534068634195e-08);
    p = fma(p, z, 2.75573137070700676789e-06);
    p = fma(p, z, -1.98412698298579493134e-04);
    p = fma(p, z, 8.33333333332248946124e-03);
    p = fma(p, z, -1.66666666666666324348e-01);
    return fma(p * z, r, r);
}

GW_BOTH static inline double gw_cos_poly(double r)
{
    double z = r * r;
    double p = fma(-1.13596475577881948265e-11, z, 2.08757232129817482790e-09);
    p = fma(p, z, -2.75573143513906633035e-07);
    p = fma(p, z, 2.48015872894767294178e-05);
    p = fma(p, z, -1.38888888888741095749e-03);
    p = fma(p, z, 4.16666666666666019037e-02);
    return fma(z * z, p, fma(z, -0.5, 1.0));
}

/* sin(x + quarters * pi/2). x = n pi/2 + r; pi/2 in two doubles: n * lo <= 4e-11 for |x| <= 1e6, and what
 * both leave out is below 1e-26. */
GW_BOTH static inline double gw_sin_quarters(double x, uint64_t quarters)
{
    double t = fma(x, 0x1.45f306dc9c883p-1, GW_F64_ROUNDER);
    double n = t - GW_F64_ROUNDER;
    double r = fma(n, -0x1.921fb54442d18p+0, x);
    r = fma(n, -0x1.1a62633145c07p-54, r);
    uint64_t quadrant = gw_f64_bits(t) + quarters;
    double y = quadrant & 1 ? gw_cos_poly(r) : gw_sin_poly(r);
    return quadrant & 2 ? -y : y;
}

GW_BOTH static inline double gw_sin(double x)
{
    return gw_sin_quarters(x, 0);
}
GW_BOTH static inline double gw_cos(double x)
{
    return gw_sin_quarters(x, 1);
}

/* e^x by x = n ln 2 + r and the series of e^r up to r^13 / 13! (the next term is below 2^-57). */
GW_BOTH static inline double gw_exp(double x)
{
    double t = fma(x, 0x1.71547652b82fep+0, GW_F64_ROUNDER);
    double n = t - GW_F64_ROUNDER;
    double r = fma(n, -0x1.62e42fefa39efp-1, x);
    r = fma(n, -0x1.abc9e3b39803fp-56, r);
    double p = 1.0 / 6227020800.0;
    static const double factorial[] = {479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0,
                                       720.0,       120.0,      24.0,      6.0,      2.0};
    for (size_t i = 0; i < sizeof factorial / sizeof *factorial; i++) p = fma(p, r, 1.0 / factorial[i]);
    p = fma(p, r * r, r) + 1.0;
    return p * gw_f64_of_bits((gw_f64_bits(t) << 52) + 0x3FF0000000000000u);
}

/* ln x by x = 2^e m, m in [sqrt(1/2), sqrt(2)), s = (m-1)/(m+1), ln m = 2 (s + s^3/3 + s^5/5 + ...). */
GW_BOTH static inline double gw_log(double x)
{
    uint64_t shifted = gw_f64_bits(x) - 0x3FE6A09E667F3BCDu;
    double e = (double)((int64_t)shifted >> 52);
    double f = gw_f64_of_bits((shifted & 0x000FFFFFFFFFFFFFu) + 0x3FE6A09E667F3BCDu) - 1.0;
    double s = f / (2.0 + f), z = s * s;
    double p = 1.0 / 25.0;
    for (int odd = 23; odd >= 3; odd -= 2) p = fma(p, z, 1.0 / odd);
    double m = fma(2.0 * s * z, p, 2.0 * s);
    return fma(e, 0x1.62e42fefa39efp-1, fma(e, 0x1.abc9e3b39803fp-56, m));
}

/* x^y for x > 0 */
GW_BOTH static inline double gw_pow(double x, double y)
{
    return gw_exp(y * gw_log(x));
}

#endif
