#include "tests/sim/sim.h"

#include "base/hash.h"

/* The state covers seed, branch, prompt and the whole log so far: a wrong resume position, a lost, repeated
 * or foreign token gives other tokens from there on. */
static void absorb(struct sim_model *m, uint32_t id)
{
    m->state = gw_mix64(m->state * 31 + id + ((uint64_t)m->position << 32));
    m->position++;
}

void sim_model_start(struct sim_model *m, const struct gw_request *q, uint32_t branch, const uint32_t *log,
                     uint32_t len)
{
    m->position = 0;
    m->state = gw_hash64(q->prompt, q->prompt_len * sizeof *q->prompt, q->sampling.seed ^ gw_mix64(branch));
    for (uint32_t i = 0; i < len; i++) absorb(m, log[i]);
}

void sim_model_next(struct sim_model *m, uint32_t top_n, struct sim_record *out)
{
    uint64_t draw = gw_mix64(m->state ^ 0x5eed);
    out->id = (uint32_t)(draw % SIM_VOCAB);
    out->logprob = -(float)(draw >> 48) / 1024.0f;
    for (uint32_t i = 0; i < top_n; i++)
        out->top[i] = (struct gw_top){(out->id + i) % SIM_VOCAB, out->logprob - (float)i};
    absorb(m, out->id);
}
