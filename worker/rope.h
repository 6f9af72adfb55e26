/* RoPE tables: cos and sin of every (position, frequency), plain or scaled.
 *
 *     inv_freq[i] = theta^(-2i / head_dim)                                  i in [0, head_dim / 2)
 *     linear      inv_freq / factor
 *     llama3      wavelength > original / low: inv_freq / factor; < original / high: as it is; between:
 *                 smoothly from one to the other
 *     yarn        inv_freq / factor · ramp + inv_freq · (1 - ramp), ramp from 0 to 1 between the i that turn
 *                 beta_fast and beta_slow times within the original context: i(n) = head_dim · ln(original /
 *                 2πn) / (2 ln theta), rounded outwards if `truncate`
 *     longrope    1 / (divisors[i] · theta^(2i / head_dim))
 *     angle       = position · inv_freq[i]; cos and sin are multiplied by `magnitude`
 *
 * Frequencies and angles are rounded to f32 where transformers rounds them, for that is what models were
 * trained with; the functions are the project's own in f64, so that every machine has the same table.
 *
 * Owner: the caller's memory. Thread: any. Units: positions. Errors: none.
 * Source: Su et al. 2021 (RoFormer); Peng et al. 2023 (YaRN); Ding et al. 2024 (LongRoPE); transformers,
 * modeling_rope_utils. */
#ifndef GW_WORKER_ROPE_H
#define GW_WORKER_ROPE_H

#include "worker/model_config.h"

/* Bytes of a table. */
static inline size_t gw_rope_bytes(uint32_t head_dim, uint32_t positions)
{
    return (size_t)positions * head_dim * sizeof(float);
}

/* table [positions][head_dim / 2][2] f32, cos then sin; positions <= the model's context. */
void gw_rope_fill(const struct gw_rope *rope, uint32_t head_dim, uint32_t positions, float *table);

#endif
