/* Pace: how many rows a step may have, so that it lasts about as long as was asked for.
 *
 * BACKGROUND: while a step computes rows of prompts, every stream that decodes beside them waits for its end, and so does whoever wants
 * to move a request away. What a row costs depends on machine, model, context and rows beside it; it is learnt from the steps
 * themselves.
 *
 * BEHAVIOR: rows = target / what a row cost lately, GW_STEP_PACE_FIRST before anything is known; never less than the rows that
 * decode and GW_STEP_PACE_LEAST more, so that prompts advance however slow the machine is, nor, where none decodes, than
 * GW_STEP_PACE_ALONE: nobody but newcomers waits, and products of fewer rows get less out of a processor. A lower cost is believed
 * sooner than a higher one, of which at most the double counts: a step that waited once for something else should not slow down
 * the next ones.
 * Only steps with rows of prompts are looked at: one that decodes reads all weights for a few rows.
 *
 * No bit depends on it: rows are computed the same way in any batch (under profiles that do not promise that, batches depend on
 * arrival anyway).
 *
 * Owner: the engine's, no memory of its own. Thread: the engine's. Units: rows, microseconds. Errors: none. Source: own design;
 * chunked prefill under a bound of time after Sarathi-Serve (Agrawal et al. 2024). */
#ifndef GW_WORKER_STEP_PACE_H
#define GW_WORKER_STEP_PACE_H

#include <stdint.h>

#define GW_STEP_PACE_FIRST 64u
#define GW_STEP_PACE_LEAST 32u
#define GW_STEP_PACE_ALONE                                                                                   \
    128u /* bench_onednn, bf16 on AVX-512: 16 rows get 0.7-0.8 of what 512 do, 64 rows 0.8-0.95 */

struct gw_step_pace {
    uint64_t target_us; /* of a step; 0: steps are as large as they can be */
    double row_us;      /* what a row cost lately; 0: not known yet */
};

/* The most rows of a step in which so many decode; <= max. */
uint32_t gw_step_pace_rows(const struct gw_step_pace *pace, uint32_t decoding, uint32_t max);

/* A step with rows of prompts is over: rows > 0 in all. */
void gw_step_pace_measured(struct gw_step_pace *pace, uint32_t rows, uint64_t us);

#endif
