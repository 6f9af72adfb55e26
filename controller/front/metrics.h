/* Metrics: what the front counts, and the text that Prometheus reads.
 *
 * Names are vLLM's where the meaning is the same, so that its dashboards work; the rest begins with godwit.
 *
 * Owner: caller memory, no heap. Thread: the loop's. Units: seconds in histograms, tokens.
 * Errors: the buffer's sticky error. Source: Prometheus text format 0.0.4; vLLM's metrics.md. */
#ifndef GW_CONTROLLER_METRICS_H
#define GW_CONTROLLER_METRICS_H

#include "base/buf.h"
#include "controller/capacity_view.h"
#include "controller/core/core.h"

#define GW_HISTOGRAM_BUCKETS_MAX 24

struct gw_histogram {
    const double *bounds; /* upper ones, ascending */
    int len;
    uint64_t counts[GW_HISTOGRAM_BUCKETS_MAX + 1]; /* the last: above all bounds */
    double sum;
};

struct gw_metrics {
    struct gw_histogram first_token_s, inter_token_s, request_s;
    uint64_t prompt_tokens, generation_tokens;
    uint64_t finished_stop, finished_length, aborted; /* choices; choices; requests */
    uint64_t failed_4xx, failed_5xx;                  /* requests, after parsing began */
    uint64_t transitions;                             /* pipelines that began to serve */
    uint64_t streams_resumed, streams_restored;       /* by clients; from the journal */
    uint64_t watches_blind;                           /* reports of instances whose cloud is not heard */
};

void gw_metrics_init(struct gw_metrics *m);
void gw_histogram_add(struct gw_histogram *h, double value);

/* Of the journal, since the start. */
struct gw_metrics_journal {
    uint64_t batches, bytes, failures, refused;
    bool failing; /* the last batch is not durable */
};

/* What is read at the moment of asking. */
struct gw_metrics_now {
    const char *model;
    struct gw_core_stats core;
    int connections, requests;                  /* of the front */
    uint32_t streams_held;                      /* have ended, can still be read */
    struct gw_metrics_journal journal;          /* zeros without one */
    uint64_t epoch, plans, plans_us;            /* of layouts */
    uint64_t turned_away;                       /* dialers of the worker port */
    double egress_usd_gb;                       /* price of 10^9 bytes between zones */
    struct gw_capacity_view capacity;           /* of the cloud's groups */
    uint32_t forming, ready, serving, draining; /* pipelines */
    uint64_t kv_used_tokens, kv_total_tokens, preemptions, prefix_hit_tokens, prefix_query_tokens;
    uint64_t kv_offered, kv_stored, kv_stored_bytes,
        kv_forged_pages; /* blocks; of the workers that are there */
};

void gw_metrics_put(const struct gw_metrics *m, const struct gw_metrics_now *now, struct gw_buf *b);

#endif
