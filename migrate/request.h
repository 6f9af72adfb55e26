/* A request: the arguments of the pure function that Godwit computes, and a piece of its result.
 *
 *     tokens = f(model, numerics profile, prompt tokens, sampling parameters, seed)
 *
 * struct gw_request is everything a worker needs to start (with an empty log) or to go on (with a log) and
 * nothing that it may remember. All text has been resolved by the front: eos ids are in stop_ids (unless
 * ignore_eos), the seed has been drawn, limits have been checked against the model.
 *
 * A branch is one of the n choices; it has a log of its own. Branch b of a request with seed s draws from
 * keyed random numbers (s, b, position, token id): no state is carried.
 *
 * Owner: gw_request owns its arrays (gw_request_destroy). Thread: plain data. Units: tokens.
 * Errors: GW_ERR_MEMORY. Source: own design. */
#ifndef GW_MIGRATE_REQUEST_H
#define GW_MIGRATE_REQUEST_H

#include <stdint.h>

#include "base/err.h"

/* What may be asked for at most. Checked by the front (400), again by whoever decodes a message. */
#define GW_REQUEST_PROMPT_MAX   (1u << 20) /* tokens */
#define GW_REQUEST_TOKENS_MAX   (1u << 20) /* max_tokens */
#define GW_REQUEST_BRANCHES_MAX 128        /* n */
#define GW_REQUEST_STOP_IDS_MAX 64
#define GW_REQUEST_BIAS_MAX     1024
#define GW_REQUEST_TOP_MAX      20 /* top_logprobs */
#define GW_REQUEST_TENANT_BYTES 16
#define GW_REQUEST_TOTAL_MAX    4000000u /* prompt_len + n * max_tokens: with its logs it fits in one frame */

struct gw_logit_bias {
    uint32_t id;
    float bias; /* added to the logit; [-100, 100] */
};

/* Order in which a logit row is transformed: bias, repetition, presence and frequency penalty, min_tokens
 * mask, temperature, top-k, top-p, min-p. Penalties count the branch's own output tokens (presence,
 * frequency) and prompt + output (repetition), as vLLM does. */
struct gw_sampling {
    float temperature;        /* 0 = greedy (lowest id wins a tie) */
    uint32_t top_k;           /* 0 = all */
    float top_p;              /* (0, 1]; 1 = all */
    float min_p;              /* [0, 1]; 0 = all */
    float presence_penalty;   /* [-2, 2] */
    float frequency_penalty;  /* [-2, 2] */
    float repetition_penalty; /* > 0; 1 = none */
    uint64_t seed;
    uint32_t max_tokens;   /* per branch, >= 1 */
    uint32_t min_tokens;   /* stop ids are masked until so many were generated */
    bool logprobs;         /* records carry the logprob of the chosen token (of the raw logits: before bias,
                              penalties, temperature) */
    uint32_t top_logprobs; /* and of so many best tokens; 0..GW_REQUEST_TOP_MAX */
    uint32_t *stop_ids;
    uint32_t stop_ids_len;
    struct gw_logit_bias *bias;
    uint32_t bias_len;
};

struct gw_request {
    uint64_t id;
    uint32_t n; /* branches, 1..GW_REQUEST_BRANCHES_MAX */
    uint32_t *prompt;
    uint32_t prompt_len; /* >= 1 */
    struct gw_sampling sampling;
    uint8_t tenant[GW_REQUEST_TENANT_BYTES]; /* salt of the block names */
};

struct gw_top {
    uint32_t id;
    float logprob;
};

/* count records of one branch, from position `first` on (position 0 = first generated token).
 * A record = id, logprob (0 when not asked for), and top_n pairs, best first. */
struct gw_tokens {
    uint32_t first, count, top_n;
    uint32_t *ids;      /* [count] */
    float *logprobs;    /* [count] */
    struct gw_top *top; /* [count][top_n] or NULL */
};

enum gw_finish {
    GW_FINISH_NONE = 0,
    GW_FINISH_STOP,   /* a stop id (it is the log's last record), or a stop string (found by the front) */
    GW_FINISH_LENGTH, /* max_tokens */
};

/* The stop decision of one record: what the branch's end is if the log's record at `position` is `id`.
 * Workers and the core both call it, so that they agree without a message. */
enum gw_finish gw_request_finish_at(const struct gw_sampling *s, uint32_t position, uint32_t id);

/* Deep copy. *out is unchanged on error; free it with gw_request_destroy. */
gw_err_t gw_request_copy(const struct gw_request *request, struct gw_request **out) GW_MUST_USE;

/* Frees a heap request and its arrays; NULL is fine. */
void gw_request_destroy(struct gw_request *request);

/* Frees the arrays only. */
void gw_request_fini(struct gw_request *request);

/* All limits and ranges above hold? vocab and context are the model's (prompt_len < context; ids < vocab;
 * prompt_len + max_tokens <= context). top_logprobs > 0 needs logprobs. */
gw_err_t gw_request_check(const struct gw_request *request, uint32_t vocab, uint32_t context,
                          struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
