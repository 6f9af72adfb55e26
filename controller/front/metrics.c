#include "controller/front/metrics.h"

#include <stdio.h>

#include "base/clock.h"

/* vLLM's bucket bounds (vllm/v1/metrics/loggers.py), so that its dashboards and alerts fit. */
static const double first_token_bounds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5,
                                            0.75,  1,     2.5,  5,    7.5,  10,   20,   40,  80};
static const double inter_token_bounds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4,
                                            0.5,  0.75,  1,    2.5,   5,   7.5,  10,  20,  40};
static const double request_bounds[] = {0.3, 0.5, 0.8, 1,  1.5, 2,  2.5, 5,   10,
                                        15,  20,  30,  40, 50,  60, 120, 240, 480};

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

void gw_metrics_init(struct gw_metrics *m)
{
    *m = (struct gw_metrics){
        .first_token_s = {.bounds = first_token_bounds, .len = COUNT(first_token_bounds)},
        .inter_token_s = {.bounds = inter_token_bounds, .len = COUNT(inter_token_bounds)},
        .request_s = {.bounds = request_bounds, .len = COUNT(request_bounds)},
    };
}

void gw_histogram_add(struct gw_histogram *h, double value)
{
    int i = 0;
    while (i < h->len && value > h->bounds[i]) i++;
    h->counts[i]++;
    h->sum += value;
}

/* ---- text ---------------------------------------------------------------------------------------------- */

struct writer {
    struct gw_buf *b;
    const char *model;
};

/* A label value: backslash, quote and line end are escaped. */
static void put_label(struct gw_buf *b, const char *value)
{
    for (const char *c = value; *c; c++) {
        if (*c == '\\' || *c == '"') gw_buf_u8(b, '\\');
        if (*c == '\n')
            gw_buf_puts(b, "\\n");
        else
            gw_buf_u8(b, (uint8_t)*c);
    }
}

static void put_about(const struct writer *w, const char *name, const char *type, const char *help)
{
    gw_buf_printf(w->b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* name{model_name="…",extra} value; extra is "" or one more label. */
static void put_sample(const struct writer *w, const char *name, const char *extra, double value)
{
    gw_buf_printf(w->b, "%s{model_name=\"", name);
    put_label(w->b, w->model);
    gw_buf_printf(w->b, "\"%s%s} %.17g\n", *extra ? "," : "", extra, value);
}

static void put_one(const struct writer *w, const char *name, const char *type, const char *help,
                    double value)
{
    put_about(w, name, type, help);
    put_sample(w, name, "", value);
}

static void put_histogram(const struct writer *w, const char *name, const char *help,
                          const struct gw_histogram *h)
{
    char sample[96], label[48];
    uint64_t below = 0;
    put_about(w, name, "histogram", help);
    snprintf(sample, sizeof sample, "%s_bucket", name);
    for (int i = 0; i <= h->len; i++) {
        below += h->counts[i];
        if (i < h->len)
            snprintf(label, sizeof label, "le=\"%g\"", h->bounds[i]);
        else
            snprintf(label, sizeof label, "le=\"+Inf\"");
        put_sample(w, sample, label, (double)below);
    }
    snprintf(sample, sizeof sample, "%s_sum", name);
    put_sample(w, sample, "", h->sum);
    snprintf(sample, sizeof sample, "%s_count", name);
    put_sample(w, sample, "", (double)below);
}

static void put_vllm(const struct writer *w, const struct gw_metrics *m, const struct gw_metrics_now *now)
{
    put_one(w, "vllm:num_requests_running", "gauge", "Requests that run on a worker.", now->core.running);
    put_one(w, "vllm:num_requests_waiting", "gauge", "Requests that wait for a worker.", now->core.queued);
    double kv = now->kv_total_tokens ? (double)now->kv_used_tokens / (double)now->kv_total_tokens : 0;
    put_one(w, "vllm:kv_cache_usage_perc", "gauge", "KV cache in use, 1 = all.", kv);
    put_one(w, "vllm:num_preemptions_total", "counter", "Sequences that gave up their KV cache.",
            (double)now->preemptions);
    put_one(w, "vllm:prefix_cache_queries_total", "counter", "Tokens looked up in prefix caches.",
            (double)now->prefix_query_tokens);
    put_one(w, "vllm:prefix_cache_hits_total", "counter", "Tokens found in prefix caches.",
            (double)now->prefix_hit_tokens);
    put_one(w, "vllm:prompt_tokens_total", "counter", "Prompt tokens accepted.", (double)m->prompt_tokens);
    put_one(w, "vllm:generation_tokens_total", "counter", "Tokens generated and kept.",
            (double)m->generation_tokens);
    put_about(w, "vllm:request_success_total", "counter", "Choices that ended, by reason.");
    put_sample(w, "vllm:request_success_total", "finished_reason=\"stop\"", (double)m->finished_stop);
    put_sample(w, "vllm:request_success_total", "finished_reason=\"length\"", (double)m->finished_length);
    put_sample(w, "vllm:request_success_total", "finished_reason=\"abort\"", (double)m->aborted);
    put_histogram(w, "vllm:time_to_first_token_seconds", "From the request to its first token.",
                  &m->first_token_s);
    put_histogram(w, "vllm:inter_token_latency_seconds", "Between tokens of one choice.", &m->inter_token_s);
    put_histogram(w, "vllm:e2e_request_latency_seconds", "From the request to the end of its answer.",
                  &m->request_s);
}

static void put_layout(const struct writer *w, const struct gw_metrics *m, const struct gw_metrics_now *now)
{
    put_one(w, "godwit:epoch", "gauge", "Number of the last plan taken.", (double)now->epoch);
    put_about(w, "godwit:pipelines", "gauge", "Pipelines, by state.");
    put_sample(w, "godwit:pipelines", "state=\"forming\"", now->forming);
    put_sample(w, "godwit:pipelines", "state=\"ready\"", now->ready);
    put_sample(w, "godwit:pipelines", "state=\"serving\"", now->serving);
    put_sample(w, "godwit:pipelines", "state=\"draining\"", now->draining);
    put_one(w, "godwit:transitions_total", "counter", "Pipelines that began to serve.",
            (double)m->transitions);
    put_about(w, "godwit:plan_seconds", "summary", "Time that plans took.");
    put_sample(w, "godwit:plan_seconds_sum", "", (double)now->plans_us / (double)GW_US_PER_S);
    put_sample(w, "godwit:plan_seconds_count", "", (double)now->plans);
}

static void put_godwit(const struct writer *w, const struct gw_metrics *m, const struct gw_metrics_now *now)
{
    const struct gw_core_stats *s = &now->core;
    put_one(w, "godwit:workers_up", "gauge", "Workers that serve.", s->workers_up);
    put_one(w, "godwit:workers_doomed", "gauge", "Workers under notice.", s->workers_doomed);
    put_one(w, "godwit:losses_total", "counter", "Workers lost without notice.", (double)s->losses);
    put_about(w, "godwit:moves_total", "counter", "Requests moved to another worker.");
    put_sample(w, "godwit:moves_total", "announced=\"true\"", (double)s->announced_moves);
    put_sample(w, "godwit:moves_total", "announced=\"false\"", (double)s->unannounced_moves);
    put_about(w, "godwit:kv_tokens_total", "counter",
              "KV that moved requests began with, by where it came from.");
    put_sample(w, "godwit:kv_tokens_total", "from=\"cache\"", (double)s->kv.cached);
    put_sample(w, "godwit:kv_tokens_total", "from=\"peer\"", (double)s->kv.moved);
    put_sample(w, "godwit:kv_tokens_total", "from=\"store\"", (double)s->kv.stored);
    put_sample(w, "godwit:kv_tokens_total", "from=\"recompute\"", (double)gw_kv_recomputed(&s->kv));
    put_about(w, "godwit:checkpoint_blocks", "gauge",
              "Sealed KV blocks of the workers that are there, and those of them that a store has.");
    put_sample(w, "godwit:checkpoint_blocks", "state=\"sealed\"", (double)now->kv_offered);
    put_sample(w, "godwit:checkpoint_blocks", "state=\"stored\"", (double)now->kv_stored);
    put_one(w, "godwit:checkpoint_covered_perc", "gauge", "The part of them that a store has, 1 = all.",
            now->kv_offered ? (double)now->kv_stored / (double)now->kv_offered : 0);
    put_one(w, "godwit:checkpoint_bytes", "gauge", "Bytes of KV that these workers have stored.",
            (double)now->kv_stored_bytes);
    put_one(w, "godwit:store_pages_forged", "gauge",
            "Pages in stores that nobody with the cluster key has sealed for their place, found by these "
            "workers.",
            (double)now->kv_forged_pages);
    put_about(w, "godwit:weight_bytes_total", "counter",
              "Packed weights that workers loaded, by where from.");
    put_sample(w, "godwit:weight_bytes_total", "from=\"disk\"", (double)s->weight_disk_bytes);
    put_sample(w, "godwit:weight_bytes_total", "from=\"peer\"", (double)s->weight_peer_bytes);
    put_one(w, "godwit:watches_blind_total", "counter",
            "Reports of instances whose cloud did not answer their watch for --blind-s.",
            (double)m->watches_blind);
    put_one(w, "godwit:warms_total", "counter", "Requests whose KV was copied ahead of a move.",
            (double)s->warms);
    put_one(w, "godwit:stale_frames_total", "counter", "Frames dropped by a fence.", (double)s->stale_frames);
    put_one(w, "godwit:diverged_total", "counter", "Workers dropped for unequal tokens.",
            (double)s->diverged);
    put_one(w, "godwit:requests_accepted_total", "counter", "Requests taken by the core.",
            (double)s->accepted);
    put_one(w, "godwit:requests_failed_total", "counter", "Requests that the core failed.",
            (double)s->failed);
    put_about(w, "godwit:http_errors_total", "counter", "Completion requests answered with an error.");
    put_sample(w, "godwit:http_errors_total", "class=\"4xx\"", (double)m->failed_4xx);
    put_sample(w, "godwit:http_errors_total", "class=\"5xx\"", (double)m->failed_5xx);
    put_one(w, "godwit:http_connections", "gauge", "Open connections of the API.", now->connections);
    put_one(w, "godwit:http_requests", "gauge", "Completion requests being answered.", now->requests);
    put_one(w, "godwit:worker_dials_refused_total", "counter",
            "Dialers of the worker port without the cluster key, or without TLS where it is due.",
            (double)now->turned_away);
}

static void put_streams(const struct writer *w, const struct gw_metrics *m, const struct gw_metrics_now *now)
{
    const struct gw_metrics_journal *j = &now->journal;
    put_one(w, "godwit:streams_resumed_total", "counter", "Streams that a client came back to.",
            (double)m->streams_resumed);
    put_one(w, "godwit:streams_restored_total", "counter", "Streams taken from the journal at the start.",
            (double)m->streams_restored);
    put_one(w, "godwit:streams_held", "gauge", "Streams that have ended and can still be read.",
            now->streams_held);
    put_one(w, "godwit:journal_batches_total", "counter", "Batches made durable.", (double)j->batches);
    put_one(w, "godwit:journal_bytes_total", "counter", "Bytes made durable.", (double)j->bytes);
    put_one(w, "godwit:journal_failures_total", "counter", "Batches that could not be made durable.",
            (double)j->failures);
    put_one(w, "godwit:journal_refused_total", "counter", "Pieces refused because too much was pending.",
            (double)j->refused);
    put_one(w, "godwit:journal_failing", "gauge", "1 while the last batch is not durable.", j->failing);
}

static void put_traffic(const struct writer *w, const struct gw_metrics_now *now)
{
    static const char *const kinds[GW_TRAFFIC_KINDS] = {"steps", "pages", "stores", "weights"};
    const struct gw_traffic_bytes *t = &now->core.traffic;
    double far = 0, usd_b = now->egress_usd_gb * 1e-9;
    char label[64];
    put_about(w, "godwit:worker_bytes_total", "counter",
              "Bytes between workers, by what for, and whether within a zone or between two.");
    for (int k = 0; k < GW_TRAFFIC_KINDS; k++) {
        snprintf(label, sizeof label, "for=\"%s\",zone=\"same\"", kinds[k]);
        put_sample(w, "godwit:worker_bytes_total", label, (double)t->near[k]);
        snprintf(label, sizeof label, "for=\"%s\",zone=\"other\"", kinds[k]);
        put_sample(w, "godwit:worker_bytes_total", label, (double)t->far[k]);
        far += (double)t->far[k];
    }
    put_one(w, "godwit:egress_usd_total", "counter", "What those between zones cost, at --egress-usd-gb.",
            far * usd_b);
    put_one(w, "godwit:egress_usd_per_hour", "gauge", "The same, at the last minute's rate.",
            now->core.far_bytes_s * 3600 * usd_b);
}

static void put_group(const struct writer *w, const struct gw_capacity_view_group *g, const char *label)
{
    const struct {
        const char *kind;
        double value;
    } all[] = {{"target", g->target}, {"desired", g->desired}, {"running", g->running}, {"live", g->live}};
    char text[64];
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        snprintf(text, sizeof text, "market=\"%s\",kind=\"%s\"", label, all[i].kind);
        put_sample(w, "godwit:capacity_instances", text, all[i].value);
    }
}

static void put_capacity(const struct writer *w, const struct gw_capacity_view *v)
{
    if (!v->on) return;
    put_one(w, "godwit:capacity_wish", "gauge", "Instances that are wished for.", v->wish);
    put_one(w, "godwit:capacity_need", "gauge", "Instances that the load needs; 0: not known.", v->need);
    put_about(
        w, "godwit:capacity_instances", "gauge",
        "Instances of the cloud's groups: that should be, that were asked for, that run, that run or come.");
    put_group(w, &v->groups[0], "spot");
    if (v->groups[1].name[0]) put_group(w, &v->groups[1], "on-demand");
    put_about(w, "godwit:cost_usd_per_hour", "gauge", "What these instances cost; 0: no price is known.");
    put_sample(w, "godwit:cost_usd_per_hour", "market=\"spot\"", v->groups[0].usd_h);
    put_sample(w, "godwit:cost_usd_per_hour", "market=\"on-demand\"", v->groups[1].usd_h);
    put_about(w, "godwit:capacity_writes_total", "counter", "What was asked of the cloud and accepted.");
    put_sample(w, "godwit:capacity_writes_total", "kind=\"size\"", (double)v->writes);
    put_sample(w, "godwit:capacity_writes_total", "kind=\"delete\"", (double)v->deletions);
    put_one(w, "godwit:capacity_failures_total", "counter", "Calls to the cloud that failed in the end.",
            (double)v->failures);
}

static void put_queue(const struct writer *w, const struct gw_notice_queue_view *q)
{
    if (!q->on) return;
    put_about(w, "godwit:notice_queue_messages_total", "counter",
              "Messages of the cloud's queue, by what they were.");
    put_sample(w, "godwit:notice_queue_messages_total", "kind=\"taken\"", (double)q->taken);
    put_sample(w, "godwit:notice_queue_messages_total", "kind=\"unknown\"", (double)q->unknown);
    put_sample(w, "godwit:notice_queue_messages_total", "kind=\"odd\"", (double)q->odd);
    put_one(w, "godwit:lifecycles_completed_total", "counter",
            "Instances whose group was told that they may go.", (double)q->completed);
}

void gw_metrics_put(const struct gw_metrics *m, const struct gw_metrics_now *now, struct gw_buf *b)
{
    const struct writer w = {.b = b, .model = now->model};
    put_vllm(&w, m, now);
    put_godwit(&w, m, now);
    put_layout(&w, m, now);
    put_streams(&w, m, now);
    put_traffic(&w, now);
    put_capacity(&w, &now->capacity);
    put_queue(&w, &now->capacity.queue);
}
