#include "worker/rope.h"

#include <math.h>

#include "kernels/vmath.h"

#define TWO_PI 6.283185307179586

static float llama3_scaled(const struct gw_rope *s, float inv_freq)
{
    double wavelength = TWO_PI / (double)inv_freq;
    if (wavelength > s->original_context / s->low_freq_factor) return (float)((double)inv_freq / s->factor);
    if (wavelength < s->original_context / s->high_freq_factor) return inv_freq;
    double smooth =
        (s->original_context / wavelength - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
    return (float)((1 - smooth) * (double)inv_freq / s->factor + smooth * (double)inv_freq);
}

/* The i whose frequency turns so many times within the original context. */
static double yarn_turning(const struct gw_rope *s, uint32_t head_dim, double turns)
{
    return head_dim * gw_log(s->original_context / (turns * TWO_PI)) / (2 * gw_log(s->theta));
}

static float yarn_scaled(const struct gw_rope *s, uint32_t head_dim, uint32_t i, float power)
{
    double low = yarn_turning(s, head_dim, s->beta_fast), high = yarn_turning(s, head_dim, s->beta_slow);
    low = fmax(s->truncate ? floor(low) : low, 0);
    high = fmin(s->truncate ? ceil(high) : high, head_dim - 1);
    if (low == high) high += 0.001;
    float ramp = ((float)i - (float)low) / (float)(high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    float keep = 1 - ramp;
    return 1 / ((float)s->factor * power) * (1 - keep) + 1 / power * keep;
}

static float inverse_frequency(const struct gw_rope *s, uint32_t head_dim, uint32_t i)
{
    double exponent = (double)(2 * i) / head_dim;
    float power = (float)gw_pow(s->theta, exponent);
    float inv_freq = (float)(1.0 / gw_pow(s->theta, exponent));
    switch (s->kind) {
    case GW_ROPE_LINEAR: return inv_freq / (float)s->factor;
    case GW_ROPE_LLAMA3: return llama3_scaled(s, inv_freq);
    case GW_ROPE_YARN: return yarn_scaled(s, head_dim, i, power);
    case GW_ROPE_LONG: return 1 / (s->divisors[i] * power);
    default: return inv_freq;
    }
}

void gw_rope_fill(const struct gw_rope *s, uint32_t head_dim, uint32_t positions, float *table)
{
    uint32_t half = head_dim / 2;
    float magnitude = (float)s->magnitude;
    for (uint32_t i = 0; i < half; i++) {
        float inv_freq = inverse_frequency(s, head_dim, i);
        for (uint32_t p = 0; p < positions; p++) {
            float angle = (float)p * inv_freq;
            float *cell = table + ((size_t)p * half + i) * 2;
            cell[0] = (float)gw_cos((double)angle) * magnitude;
            cell[1] = (float)gw_sin((double)angle) * magnitude;
        }
    }
}
