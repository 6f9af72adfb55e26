#include "controller/plan/cost.h"

#include <math.h>
#include <stdlib.h>

#define F32_BYTES    4
#define RHO_TOP      0.999 /* beyond it waits are only larger, not more telling */
#define CORRECT_PART 8
#define CORRECT_MAX  16.0

/* One stage, ready to be asked for its time over x tokens. */
struct stage {
    const struct gw_layout_rank *ranks;
    uint32_t n, layers, subtrees;
    struct gw_plan_link link; /* among its ranks; unset, as subtrees, for a single one */
    struct gw_plan_link next; /* to the stage after it; unset for the last one */
    bool first, last;
};

static double larger(double a, double b)
{
    return a > b ? a : b;
}
static double smaller(double a, double b)
{
    return a < b ? a : b;
}

double gw_cost_headroom(const struct gw_plan_fleet *f)
{
    double total = 0, largest = 0;
    for (uint32_t i = 0; i < f->instances_len; i++) {
        const struct gw_plan_instance *in = &f->instances[i];
        double bytes = 0;
        for (uint32_t d = 0; d < in->devices; d++)
            bytes += (double)f->types[f->devices[in->first_device + d].type].memory_bytes;
        if (in->doomed_at_s > 0) continue;
        total += bytes;
        largest = larger(largest, bytes);
    }
    if (total <= largest) return 0;
    return smaller(largest / total, GW_COST_HEADROOM_MAX);
}

struct gw_plan_link gw_cost_link(const struct gw_plan_fleet *f, uint32_t a, uint32_t b)
{
    const struct gw_plan_instance *x = &f->instances[a], *y = &f->instances[b];
    if (a == b) return x->intra;
    struct gw_plan_link l = {smaller(x->inter.bytes_s, y->inter.bytes_s),
                             larger(x->inter.latency_s, y->inter.latency_s)};
    if (x->zone == y->zone) return l;
    return (struct gw_plan_link){smaller(l.bytes_s, f->zone_link.bytes_s),
                                 larger(l.latency_s, f->zone_link.latency_s)};
}

static uint32_t instance_of(const struct gw_plan_fleet *f, const struct gw_layout_rank *r)
{
    return f->devices[r->device].instance;
}

/* Subtrees of the reduction tree that shares [s0, s1) make: aligned powers of two. */
static uint32_t subtrees_of(uint32_t s0, uint32_t s1)
{
    uint32_t n = 0;
    while (s0 < s1) {
        uint32_t size = s0 ? s0 & -s0 : 1u << 30;
        while (size > s1 - s0) size >>= 1;
        s0 += size;
        n++;
    }
    return n;
}

/* The slowest link among a stage's ranks. Ranks of one instance share what it has to the others. */
static struct gw_plan_link stage_link(const struct gw_plan_fleet *f, const struct gw_layout_rank *ranks,
                                      uint32_t n)
{
    uint32_t home = instance_of(f, ranks), most = 0;
    struct gw_plan_link worst = f->instances[home].intra;
    bool across = false;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t other = instance_of(f, &ranks[i]);
        if (i == 0 ||
            instance_of(f, &ranks[i - 1]) != other) { /* the first of a run: how many has it in all? */
            uint32_t run = 0;
            for (uint32_t j = 0; j < n; j++) run += instance_of(f, &ranks[j]) == other;
            most = run > most ? run : most;
        }
        if (other == home) continue;
        struct gw_plan_link l = gw_cost_link(f, home, other);
        across = true;
        worst.bytes_s = smaller(worst.bytes_s, l.bytes_s);
        worst.latency_s = larger(worst.latency_s, l.latency_s);
    }
    if (across) worst.bytes_s /= most;
    return worst;
}

/* Rank i of a stage hears from rank i mod n of the n before it: the slowest of these links, as far as it is for one copy. */
static struct gw_plan_link next_link(const struct gw_plan_fleet *f, const struct gw_layout_rank *ranks,
                                     uint32_t n, const struct gw_layout_rank *next, uint32_t next_n)
{
    uint32_t from = instance_of(f, ranks), to = instance_of(f, next);
    struct gw_plan_link worst = gw_cost_link(f, from, to);
    for (uint32_t i = 1, sender = 1; i < next_n; i++, sender++) {
        uint32_t from_before = from, to_before = to;
        if (sender >= n) sender = 0;
        from = instance_of(f, &ranks[sender]);
        to = instance_of(f, &next[i]);
        if (from == from_before && to == to_before) continue;
        struct gw_plan_link l = gw_cost_link(f, from, to);
        worst.bytes_s = smaller(worst.bytes_s, l.bytes_s);
        worst.latency_s = larger(worst.latency_s, l.latency_s);
    }
    worst.bytes_s /= (next_n + n - 1) / n;
    return worst;
}

/* The stage of n ranks, before `rest` ranks of those that follow it. */
static struct stage stage_of(const struct gw_plan_input *in, const struct gw_layout_rank *ranks, uint32_t n,
                             uint32_t rest)
{
    struct gw_cell_rect c = ranks[0].cells;
    struct stage s = {.ranks = ranks, .n = n, .first = c.g0 == 0, .last = c.g1 == in->model->groups};
    s.layers = gw_plan_layers(in->model, c.g0, c.g1);
    if (n > 1) s.link = stage_link(in->fleet, ranks, n);
    for (uint32_t i = 0; i < n && n > 1; i++) {
        uint32_t u = subtrees_of(ranks[i].cells.s0, ranks[i].cells.s1);
        if (u > s.subtrees) s.subtrees = u;
    }
    uint32_t next_n = 0;
    while (next_n < rest && ranks[n + next_n].stage == ranks[n].stage) next_n++;
    if (next_n) s.next = next_link(in->fleet, ranks, n, ranks + n, next_n);
    return s;
}

/* Seconds as a function of tokens: base + x * slope. */
struct line {
    double base, slope;
};

static double at(struct line l, double x)
{
    return l.base + x * l.slope;
}

/* What moves between ranks in one step: C_k + X_k. */
static struct line exchange_of(const struct gw_plan_model *m, const struct stage *s)
{
    struct line t = {0};
    double bytes = (double)m->hidden * F32_BYTES;
    if (s->n > 1) {
        double gathers = 2.0 * s->layers + s->first + s->last;
        t.base += gathers * s->link.latency_s;
        t.slope += gathers * (s->n - 1) * s->subtrees * bytes / s->link.bytes_s;
    }
    if (!s->last) {
        t.base += s->next.latency_s;
        t.slope += bytes / s->next.bytes_s;
    }
    return t;
}

/* What a rank holds and does: W, V, 2W/w, A. */
struct work {
    double held, weights; /* bytes in memory; bytes read per step */
    double kv_token, flop_token, flop_context;
    const struct gw_plan_type *type;
};

static struct work work_of(const struct gw_plan_input *in, const struct gw_layout_rank *r)
{
    const struct gw_plan_model *m = in->model;
    double held = (double)gw_plan_weight_bytes(m, r->cells), tables = 0, head = 0;
    bool first = r->cells.g0 == 0, last = r->cells.g1 == m->groups;
    if (first || last) tables = (double)gw_plan_table_bytes(m, r->cells);
    /* of the tables only the head is read whole: embedding rows are looked up */
    if (last) head = first && !m->tied ? tables / 2 : tables;
    double weights = held - tables + head;
    return (struct work){.held = held,
                         .weights = weights,
                         .kv_token = (double)gw_plan_kv_token_bytes(m, r->cells),
                         .flop_token = 2 * (weights - gw_plan_idle_bytes(m, r->cells)) / m->weight_bytes,
                         .flop_context = m->attn_flop * gw_plan_layers(m, r->cells.g0, r->cells.g1) *
                                         (r->cells.s1 - r->cells.s0),
                         .type = &in->fleet->types[in->fleet->devices[r->device].type]};
}

static double prefill_s(const struct work *w, double x)
{
    double chunks = larger(1, x / GW_COST_CHUNK);
    double memory = chunks * (w->weights + 0.5 * x * w->kv_token) / w->type->bytes_s;
    double math = x * (w->flop_token + 0.5 * x * w->flop_context) / w->type->flop_s;
    return w->type->prefill_factor * larger(memory, math);
}

/* Requests of mean length whose KV fits at the rank; < 0 if weights and one P99 request do not. */
static double batch_that_fits(const struct gw_plan_load *l, double headroom, const struct work *w)
{
    double room = (double)w->type->memory_bytes * (1 - headroom) - w->held;
    if (room < w->kv_token * (l->prompt_p99 + l->output_p99)) return -1;
    return larger(1, room / (w->kv_token * (l->prompt_mean + l->output_mean)));
}

/* Running totals over a pipeline's stages. */
struct totals {
    bool even; /* gw_plan_even */
    double headroom, batch_max;
    double x[GW_COST_NODES];                       /* tokens of a micro-batch, per node */
    double sum[GW_COST_NODES], top[GW_COST_NODES]; /* of decode steps, per node */
    double prefill_top, prefill99_sum, prefill99_top;
};

/* Is rank i as quick and as full as the one before it? */
static bool like_before(const struct gw_plan_input *in, const struct gw_layout_rank *ranks, uint32_t i,
                        bool even)
{
    const struct gw_plan_device *d = in->fleet->devices;
    const struct gw_cell_rect *a = &ranks[i].cells, *b = &ranks[i - 1].cells;
    return even && d[ranks[i].device].type == d[ranks[i - 1].device].type && a->s1 - a->s0 == b->s1 - b->s0;
}

/* False if a rank's memory is too small. */
static bool add_stage(const struct gw_plan_input *in, const struct stage *s, struct totals *t)
{
    const struct gw_plan_load *load = in->load;
    double decode[GW_COST_NODES] = {0}, prefill = 0, prefill99 = 0;
    double context = load->prompt_mean + load->output_mean / 2;
    for (uint32_t i = 0; i < s->n; i++) {
        if (i && like_before(in, s->ranks, i, t->even)) continue;
        struct work w = work_of(in, &s->ranks[i]);
        double batch = batch_that_fits(load, t->headroom, &w), q = w.type->decode_factor;
        if (batch < 0) return false;
        t->batch_max = smaller(t->batch_max, batch);
        struct line memory = {q * w.weights / w.type->bytes_s, q * context * w.kv_token / w.type->bytes_s};
        double math = q * (w.flop_token + context * w.flop_context) / w.type->flop_s;
        for (int node = 0; node < GW_COST_NODES; node++)
            decode[node] = larger(decode[node], larger(at(memory, t->x[node]), math * t->x[node]));
        prefill = larger(prefill, prefill_s(&w, load->prompt_mean));
        prefill99 = larger(prefill99, prefill_s(&w, load->prompt_p99));
    }
    struct line exchange = exchange_of(in->model, s);
    for (int node = 0; node < GW_COST_NODES; node++) {
        double step = decode[node] + at(exchange, t->x[node]);
        t->sum[node] += step;
        t->top[node] = larger(t->top[node], step);
    }
    prefill += at(exchange, load->prompt_mean);
    prefill99 += at(exchange, load->prompt_p99);
    t->prefill_top = larger(t->prefill_top, prefill);
    t->prefill99_sum += prefill99;
    t->prefill99_top = larger(t->prefill99_top, prefill99);
    return true;
}

static double cycle_at(const struct gw_pipe_cost *c, double batch)
{
    int node = 0;
    while (node + 2 < GW_COST_NODES && (double)(1 << (node + 1)) < batch) node++;
    double low = (double)(1 << node), part = (batch - low) / low;
    return c->cycle_s[node] + part * (c->cycle_s[node + 1] - c->cycle_s[node]);
}

static double device_usd_h(const struct gw_plan_fleet *f, const struct gw_layout_rank *r)
{
    const struct gw_plan_instance *i = &f->instances[instance_of(f, r)];
    return i->price_usd_h / i->devices;
}

static void finish(const struct gw_plan_input *in, const struct totals *t, uint32_t stages,
                   struct gw_pipe_cost *c)
{
    double chunks = larger(1, ceil(in->load->prompt_p99 / GW_COST_CHUNK));
    for (int node = 0; node < GW_COST_NODES; node++)
        c->cycle_s[node] = larger(t->sum[node], smaller(1 << node, stages) * t->top[node]);
    c->batch_max = t->batch_max;
    c->prefill_work_s = t->prefill_top;
    c->prefill_p99_s = (t->prefill99_sum + (chunks - 1) * t->prefill99_top) / chunks;
    c->capacity_rps =
        1 / (c->prefill_work_s + in->load->output_mean * cycle_at(c, c->batch_max) / c->batch_max);
}

/* Prices of the devices; bytes over the cuts between stages that are in different zones. */
static void add_prices(const struct gw_plan_input *in, const struct gw_layout_rank *ranks, uint32_t n,
                       struct gw_pipe_cost *c)
{
    const struct gw_plan_instance *instances = in->fleet->instances;
    for (uint32_t i = 0; i < n; i++) {
        c->usd_h += device_usd_h(in->fleet, &ranks[i]);
        if (i && ranks[i].stage != ranks[i - 1].stage &&
            instances[instance_of(in->fleet, &ranks[i])].zone !=
                instances[instance_of(in->fleet, &ranks[i - 1])].zone)
            c->zone_token_bytes += (double)in->model->hidden * F32_BYTES;
    }
}

bool gw_cost_pipeline(const struct gw_plan_input *in, double headroom, const struct gw_layout_rank *ranks,
                      uint32_t n, struct gw_pipe_cost *out)
{
    struct gw_pipe_cost c = {0};
    uint32_t stages = ranks[n - 1].stage + 1u;
    struct totals t = {.even = gw_plan_even(in->model), .headroom = headroom, .batch_max = GW_COST_BATCH_MAX};
    if (in->load->concurrency_max >= 1) t.batch_max = smaller(t.batch_max, in->load->concurrency_max);
    for (int node = 0; node < GW_COST_NODES; node++) t.x[node] = larger(1, (double)(1 << node) / stages);
    for (uint32_t i = 0, next; i < n; i = next) {
        for (next = i + 1; next < n && ranks[next].stage == ranks[i].stage;) next++;
        struct stage s = stage_of(in, &ranks[i], next - i, n - next);
        if (!add_stage(in, &s, &t)) return false;
    }
    add_prices(in, ranks, n, &c);
    finish(in, &t, stages, &c);
    c.profile = in->fleet->types[in->fleet->devices[ranks->device].type].profile;
    *out = c;
    return true;
}

/* The batch at which the pipeline carries lambda; in segment [b, 2b] cycle = a + s·B, so that
 * λ(p + Lo(a + s·B)/B) = 1 gives B = λ·Lo·a / (1 − λ·p − λ·Lo·s). */
static double batch_for(const struct gw_pipe_cost *c, const struct gw_plan_load *load, double lambda)
{
    double spare = 1 - lambda * c->prefill_work_s, out = load->output_mean;
    if (lambda * (c->prefill_work_s + out * c->cycle_s[0]) <= 1) return 1;
    for (int node = 0; node + 1 < GW_COST_NODES; node++) {
        double low = (double)(1 << node), slope = (c->cycle_s[node + 1] - c->cycle_s[node]) / low;
        if (node + 2 < GW_COST_NODES && lambda * out * c->cycle_s[node + 1] > spare * 2 * low) continue;
        double rest = spare - lambda * out * slope, at = lambda * out * (c->cycle_s[node] - slope * low);
        return rest > 0 ? smaller(c->batch_max, at / rest) : c->batch_max;
    }
    return c->batch_max;
}

struct gw_pipe_promise gw_cost_promise(const struct gw_pipe_cost *c, const struct gw_plan_load *load,
                                       double rho)
{
    struct gw_pipe_promise p;
    rho = smaller(rho, RHO_TOP);
    double lambda = rho * c->capacity_rps, servers = c->batch_max, service = servers / c->capacity_rps;
    double cycle = cycle_at(c, batch_for(c, load, lambda)), busy = lambda * c->prefill_work_s;
    double wait = 0, prompts = 0;
    if (rho > 0) {
        double log_pw = (sqrt(2 * (servers + 1)) - 1) * log(rho);
        wait = larger(0, log(100) + log_pw) * service / (servers * (1 - rho));
    }
    if (busy > 0.01) prompts = log(100 * busy) * c->prefill_work_s / (1 - busy);
    p.ttft_p99_s = wait + prompts + c->prefill_p99_s + cycle;
    p.tpot_s = cycle / (1 - busy);
    p.latency_p99_s = p.ttft_p99_s + load->output_p99 * p.tpot_s;
    return p;
}

static bool slo_kept(const struct gw_plan_load *load, const struct gw_score *s)
{
    return (load->slo_ttft_s <= 0 || s->ttft_p99_s <= load->slo_ttft_s) &&
           (load->slo_tpot_s <= 0 || s->tpot_s <= load->slo_tpot_s);
}

struct gw_score gw_cost_score(const struct gw_plan_input *in, const struct gw_pipe_cost *const *costs,
                              const uint32_t *counts, uint32_t kinds)
{
    struct gw_score s = {0};
    double zone_bytes = 0, arrival = in->load->arrival_rps,
           tokens = in->load->prompt_mean + in->load->output_mean;
    uint64_t wanted = in->load->profiles;
    for (uint32_t i = 0; i < kinds; i++) {
        if (counts[i] && costs[i]->profile < 64) wanted &= ~(1ull << costs[i]->profile);
        s.throughput_rps += counts[i] * costs[i]->capacity_rps;
        s.usd_h += counts[i] * costs[i]->usd_h;
        zone_bytes += counts[i] * costs[i]->capacity_rps * costs[i]->zone_token_bytes * tokens;
    }
    s.unserved = (uint32_t)__builtin_popcountll(wanted);
    if (s.throughput_rps <= 0) return s;
    double rho = arrival / s.throughput_rps;
    s.usd_h += smaller(rho, 1) * zone_bytes * 3600 * 1e-9 * in->fleet->zone_usd_gb;
    for (uint32_t i = 0; i < kinds; i++) {
        if (!counts[i]) continue;
        struct gw_pipe_promise p = gw_cost_promise(costs[i], in->load, rho);
        s.latency_p99_s = larger(s.latency_p99_s, p.latency_p99_s);
        s.ttft_p99_s = larger(s.ttft_p99_s, p.ttft_p99_s);
        s.tpot_s = larger(s.tpot_s, p.tpot_s);
    }
    if (rho <= GW_COST_RHO_MAX) s.promise = slo_kept(in->load, &s) ? GW_PROMISE_SLO : GW_PROMISE_RATE;
    return s;
}

static uint32_t end_of_pipeline(const struct gw_layout *l, uint32_t i)
{
    uint32_t p = l->ranks[i].pipeline;
    while (i < l->ranks_len && l->ranks[i].pipeline == p) i++;
    return i;
}

gw_err_t gw_cost_layout(const struct gw_plan_input *in, double headroom, const struct gw_layout *l,
                        struct gw_score *out)
{
    gw_err_t err = GW_ERR_MEMORY;
    struct gw_pipe_cost *costs = calloc(l->pipelines + 1, sizeof *costs);
    const struct gw_pipe_cost **pointers = calloc(l->pipelines + 1, sizeof *pointers);
    uint32_t *counts = calloc(l->pipelines + 1, sizeof *counts), n = 0;
    if (!costs || !pointers || !counts) goto out;
    err = GW_ERR_LIMIT;
    for (uint32_t i = 0, next; i < l->ranks_len; i = next, n++) {
        next = end_of_pipeline(l, i);
        if (!gw_cost_pipeline(in, headroom, &l->ranks[i], next - i, &costs[n])) goto out;
        pointers[n] = &costs[n];
        counts[n] = 1;
    }
    *out = gw_cost_score(in, pointers, counts, n);
    err = GW_OK;
out:
    free(costs);
    free(pointers);
    free(counts);
    return err;
}

static int by(double a, double b)
{
    return a < b ? 1 : a > b ? -1 : 0;
} /* less is better */

static double step_of(double latency_s)
{
    return latency_s > 0 ? floor(log(latency_s) / log1p(GW_COST_STEP)) : -1e9;
}

int gw_score_compare(const struct gw_score *a, const struct gw_score *b)
{
    int c;
    if (a->unserved != b->unserved) return a->unserved < b->unserved ? 1 : -1;
    if (a->promise != b->promise) return a->promise > b->promise ? 1 : -1;
    if (a->promise == GW_PROMISE_NONE) {
        if ((c = by(b->throughput_rps, a->throughput_rps))) return c;
        if ((c = by(a->usd_h, b->usd_h))) return c;
        return by(a->latency_p99_s, b->latency_p99_s);
    }
    if ((c = by(step_of(a->latency_p99_s), step_of(b->latency_p99_s)))) return c;
    if ((c = by(a->usd_h, b->usd_h))) return c;
    return by(a->latency_p99_s, b->latency_p99_s);
}

static double rank_step_s(const struct work *w, const struct gw_step_batch *b)
{
    double kv_reads = b->kv_tokens * b->sequences / b->rows;
    double memory = (w->weights + kv_reads * w->kv_token) / w->type->bytes_s;
    double math = (b->rows * w->flop_token + b->kv_tokens * w->flop_context) / w->type->flop_s;
    return larger(memory, math);
}

struct gw_step_time gw_cost_step(const struct gw_plan_input *in, const struct gw_layout_rank *ranks,
                                 uint32_t n, const struct gw_step_batch *batch)
{
    struct gw_step_time t = {0};
    for (uint32_t i = 0, next; i < n; i = next) {
        double slowest = 0;
        for (next = i; next < n && ranks[next].stage == ranks[i].stage; next++) {
            struct work w = work_of(in, &ranks[next]);
            slowest = larger(slowest, rank_step_s(&w, batch));
        }
        struct stage s = stage_of(in, &ranks[i], next - i, n - next);
        t.ranks_s += slowest;
        t.exchange_s += at(exchange_of(in->model, &s), batch->rows);
    }
    return t;
}

double gw_cost_correct(double factor, double predicted_s, double measured_s)
{
    if (!(predicted_s > 0) || !(measured_s > 0)) return factor;
    double next = factor + (measured_s / predicted_s - factor) / CORRECT_PART;
    return larger(1 / CORRECT_MAX, smaller(CORRECT_MAX, next));
}
