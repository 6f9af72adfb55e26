#include "worker/rope.h"

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

static float inverse_frequency(const struct gw_model_config *c, uint32_t i)
{
    double exponent = (double)(2 * i) / c->head_dim;
    float inv_freq = (float)(1.0 / gw_pow(c->rope_theta, exponent));
    return c->rope.llama3 ? llama3_scaled(&c->rope, inv_freq) : inv_freq;
}

gw_err_t gw_rope_table(const struct gw_model_config *c, uint32_t positions, float **out)
{
    uint32_t half = c->head_dim / 2;
    float *table = malloc(sizeof *table * 2 * half * positions);
    if (!table) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < half; i++) {
        float inv_freq = inverse_frequency(c, i);
        for (uint32_t p = 0; p < positions; p++) {
            float angle = (float)p * inv_freq;
            float *cell = table + ((size_t)p * half + i) * 2;
            cell[0] = (float)gw_cos((double)angle);
            cell[1] = (float)gw_sin((double)angle);
        }
    }
    *out = table;
    return GW_OK;
}
