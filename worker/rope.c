#include "worker/rope.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/vmath.h"

#define TWO_PI 6.283185307179586

static float llama3_scaled(const struct gw_rope_scaling *s, float inv_freq)
{
    double wavelength = TWO_PI / (double)inv_freq;
    if (wavelength > s->original_context / s->low_freq_factor) return (float)((double)inv_freq / s->factor);
    if (wavelength < s->original_context / s->high_freq_factor) return inv_freq;
    double smooth =
        (s->original_context / wavelength - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
    return (float)((1 - smooth) * (double)inv_freq / s->factor + smooth * (double)inv_freq);
}

/* The i whose frequency turns so many times within the original context. */
static double yarn_turning(const struct gw_model_config *c, double turns)
{
    return c->head_dim * gw_log(c->rope.original_context / (turns * TWO_PI)) / (2 * gw_log(c->rope_theta));
}

static float yarn_scaled(const struct gw_model_config *c, uint32_t i, float power)
{
    const struct gw_rope_scaling *s = &c->rope;
    double low = yarn_turning(c, s->beta_fast), high = yarn_turning(c, s->beta_slow);
    low = fmax(s->truncate ? floor(low) : low, 0);
    high = fmin(s->truncate ? ceil(high) : high, c->head_dim - 1);
    if (low == high) high += 0.001;
    float ramp = ((float)i - (float)low) / (float)(high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    float keep = 1 - ramp;
    return 1 / ((float)s->factor * power) * (1 - keep) + 1 / power * keep;
}

static float inverse_frequency(const struct gw_model_config *c, uint32_t i)
{
    double exponent = (double)(2 * i) / c->head_dim;
    float power = (float)gw_pow(c->rope_theta, exponent);
    float inv_freq = (float)(1.0 / gw_pow(c->rope_theta, exponent));
    switch (c->rope.kind) {
    case GW_ROPE_LINEAR: return inv_freq / (float)c->rope.factor;
    case GW_ROPE_LLAMA3: return llama3_scaled(&c->rope, inv_freq);
    case GW_ROPE_YARN: return yarn_scaled(c, i, power);
    case GW_ROPE_LONG: return 1 / (c->rope.divisors[i] * power);
    default: return inv_freq;
    }
}

gw_err_t gw_rope_table(const struct gw_model_config *c, uint32_t positions, float **out)
{
    uint32_t half = c->head_dim / 2;
    float *table = malloc(sizeof *table * 2 * half * positions);
    float magnitude = (float)c->rope.magnitude;
    if (!table) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < half; i++) {
        float inv_freq = inverse_frequency(c, i);
        for (uint32_t p = 0; p < positions; p++) {
            float angle = (float)p * inv_freq;
            float *cell = table + ((size_t)p * half + i) * 2;
            cell[0] = (float)gw_cos((double)angle) * magnitude;
            cell[1] = (float)gw_sin((double)angle) * magnitude;
        }
    }
    *out = table;
    return GW_OK;
}
