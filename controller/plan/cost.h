/* The cost model: how fast a pipeline is, how much it carries, and what a whole layout promises.
 *
 * Symbols. Lp, Lo: mean prompt and output tokens; c = Lp + Lo/2: mean context of a decoding token. For rank r of stage
 * k: W_r weight bytes it reads per step, V_r KV bytes per token, w bytes per weight, A_r attention FLOP per token and
 * token of context, M_r bytes/s, F_r FLOP/s, q_r the measured correction of its type. All times in seconds.
 *
 * 1. Step of stage k over x tokens (roofline, then collectives):
 *      decode   T_k(x) = max_r q_r · max((W_r + x·c·V_r) / M_r,  x·(2·W_r/w + c·A_r) / F_r) + C_k(x) + X_k(x)
 *      prefill  the same for one prompt of x tokens, its own context growing: c = x/2, and V_r read once per
 *               GW_COST_CHUNK tokens
 *    Collectives, R ranks per stage, l latency and b bytes/s of the slowest link among them, u the most subtrees
 *    of the reduction tree that a rank's shares make (DESIGN part 4), h hidden size, f32 partial sums:
 *      C_k(x) = 2 · layers_k · (l + (R-1)·u·4·x·h / b),  0 for R = 1
 *    and one more gather at the first stage (embedding rows) and at the last (logits' statistics). To the next stage, l and
 *    b of the slowest link that is used, f copies from one rank (ranks of the next stage / ranks of this one, rounded up):
 *      X_k(x) = l + f·4·x·h / b
 * 2. Cycle: B requests decode in micro-batches over K stages; every one gets a token per cycle:
 *      x = max(1, B/K),  cycle(B) = max(Σ_k T_k(x),  min(B, K) · max_k T_k(x))
 *    kept for B = 1, 2, 4 … and read by linear interpolation between (cycle is convex, so never too low).
 * 3. Carrying λ requests/s. p = max_k prefill_k: what one prompt takes of the slowest stage.
 *      capacity  μ(B) = 1 / (p + Lo · cycle(B) / B), which grows with B;  μ = μ(Bmax)
 *      batch     B solves μ(B) = λ;  TPOT = cycle(B) / (1 − λ·p)    (prefill takes its share of every step)
 *    Bmax: what KV fits beside weights and headroom, in requests of Lp + Lo tokens, and the load's own limit.
 * 4. Waiting, ρ = λ/μ, service s = Bmax/μ, Bmax servers (Sakasegawa 1977 for the probability of waiting, exponential
 *    tail); the prompt then waits for prompts before it (M/M/1 with load λ·p, not beyond them: it is one server):
 *      Pw = ρ^(√(2(Bmax+1)) − 1),   W99 = max(0, ln(100·Pw)) · s / (Bmax·(1−ρ))
 *      Q99 = max(0, ln(100·λ·p)) · p / (1 − λ·p)
 *      TTFT99 = W99 + Q99 + prefill(Lp99) + cycle(B);   latency99 = TTFT99 + Lo99 · TPOT
 * 5. A layout shares the load in proportion to μ, so all its pipelines have the same ρ; its P99 is its worst
 *    pipeline's. Cost = devices' prices + bytes between zones · price.
 *
 * Scores compare by: profiles that the load needs and no pipeline has (a request waits for its own for good); promise kept (rate and SLO, rate only, neither); then latency99 in steps of GW_COST_STEP; then
 * cost; then latency99 itself. Without the rate: throughput, then cost, then latency.
 *
 * Owner: plain data. Thread: any; pure. Units: seconds, bytes, tokens, USD per hour. Errors: none; what does not
 * fit says so. Source: roofline (Williams 2009); Little's law; Sakasegawa 1977; own design. */
#ifndef GW_CONTROLLER_PLAN_COST_H
#define GW_CONTROLLER_PLAN_COST_H

#include "migrate/plan.h"

#define GW_COST_NODES     13   /* cycle is kept for batches of 2^0 … 2^12 */
#define GW_COST_BATCH_MAX 4096 /* requests in one pipeline: the last node */
#define GW_COST_CHUNK     512  /* tokens of a prefill chunk */
#define GW_COST_RHO_MAX                                                                                      \
    0.95 /* a fleet that must run above this load does not meet the rate: queues never drain */
#define GW_COST_STEP                                                                                         \
    0.01 /* latencies within 1% are equal: the model is no better than that, and price decides */
#define GW_COST_HEADROOM_MAX                                                                                 \
    0.5 /* reserving more than half of the memory costs more than the loss it covers */

struct gw_plan_input {
    const struct gw_plan_fleet *fleet;
    const struct gw_plan_model *model;
    const struct gw_plan_load *load;
};

struct gw_pipe_cost {
    double cycle_s[GW_COST_NODES];
    double batch_max; /* requests */
    double prefill_work_s, prefill_p99_s;
    double capacity_rps;
    double usd_h;            /* its devices */
    double zone_token_bytes; /* that cross zones per token */
    uint32_t profile;
};

enum gw_promise { GW_PROMISE_NONE, GW_PROMISE_RATE, GW_PROMISE_SLO };

struct gw_score {
    uint32_t unserved; /* profiles of the load that no pipeline has */
    enum gw_promise promise;
    double latency_p99_s, ttft_p99_s, tpot_s; /* of the worst pipeline, at the load it gets */
    double throughput_rps;                    /* what the layout could carry */
    double usd_h;
};

/* The fraction of every device's memory that stays free of weights and minimum KV, so that the others can take over
 * what the largest instance holds: its memory / the memory of all that are not doomed, 0 if it is the only one. */
double gw_cost_headroom(const struct gw_plan_fleet *fleet);

/* Costs the n ranks of one pipeline (sorted by stage and share). False if weights and the KV of one P99 request do
 * not fit into (1 - headroom) of a device's memory; *out is then unchanged. */
bool gw_cost_pipeline(const struct gw_plan_input *in, double headroom, const struct gw_layout_rank *ranks,
                      uint32_t n, struct gw_pipe_cost *out);

struct gw_pipe_promise {
    double latency_p99_s, ttft_p99_s, tpot_s;
};

/* What a pipeline promises at load rho of its capacity, rho in [0, 1). */
struct gw_pipe_promise gw_cost_promise(const struct gw_pipe_cost *cost, const struct gw_plan_load *load,
                                       double rho);

/* Scores kinds of pipelines, counts[i] pipelines of costs[i] each. No pipeline at all: promise NONE, throughput 0. */
struct gw_score gw_cost_score(const struct gw_plan_input *in, const struct gw_pipe_cost *const *costs,
                              const uint32_t *counts, uint32_t kinds);

/* Scores a layout as it is; GW_ERR_LIMIT if a pipeline does not fit into memory. */
gw_err_t gw_cost_layout(const struct gw_plan_input *in, double headroom, const struct gw_layout *layout,
                        struct gw_score *out) GW_MUST_USE;

/* > 0: a is better; 0: equal. A total order. */
int gw_score_compare(const struct gw_score *a, const struct gw_score *b);

/* What a step did. */
struct gw_step_batch {
    double rows, sequences; /* rows == sequences: it only decoded */
    double kv_tokens;       /* positions that attention read, over all rows */
};

struct gw_step_time {
    double ranks_s;    /* its stages, each as slow as its slowest rank */
    double exchange_s; /* between ranks and stages */
};

/* The model's time of one such step through the n ranks of a pipeline (sorted by stage and share), at factor 1. A
 * sequence of several rows reads its KV once. in->load is not looked at. */
struct gw_step_time gw_cost_step(const struct gw_plan_input *in, const struct gw_layout_rank *ranks,
                                 uint32_t n, const struct gw_step_batch *batch);

/* The correction of a type after one more measured step: predicted_s is the model's time at factor 1. Moves by an
 * eighth of the way (one slow step says little), and stays within [1/16, 16]. */
double gw_cost_correct(double factor, double predicted_s, double measured_s);

/* Seconds in which `bytes` cross from one instance to another, or within one. */
struct gw_plan_link gw_cost_link(const struct gw_plan_fleet *fleet, uint32_t instance_a, uint32_t instance_b);

#endif
