#include "controller/layout_load.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

struct live {
    uint32_t branches;
    uint64_t tokens;
};

/* ---- lengths ---- */

/* Bucket i holds lengths up to 2^(i/2). */
static uint32_t bucket_of(double len)
{
    double i = len > 1 ? ceil(2 * log2(len)) : 0;
    return i < GW_LOAD_BUCKETS - 1 ? (uint32_t)i : GW_LOAD_BUCKETS - 1;
}

static void add_length(struct gw_load_lengths *l, double len, uint32_t times)
{
    l->count += times;
    l->sum += len * times;
    l->buckets[bucket_of(len)] += times;
}

static void add_lengths(struct gw_load_lengths *to, const struct gw_load_lengths *from)
{
    to->count += from->count;
    to->sum += from->sum;
    for (uint32_t i = 0; i < GW_LOAD_BUCKETS; i++) to->buckets[i] += from->buckets[i];
}

/* The upper bound of the bucket that the P99 lies in. */
static double p99_of(const struct gw_load_lengths *l)
{
    uint64_t below = 0;
    for (uint32_t i = 0; i < GW_LOAD_BUCKETS; i++) {
        below += l->buckets[i];
        if (below * 100 >= (uint64_t)l->count * 99) return exp2(i / 2.0);
    }
    return exp2((GW_LOAD_BUCKETS - 1) / 2.0);
}

static double clamp(double v, double min, double max)
{
    return v < min ? min : v > max ? max : v;
}

/* The prior fades as requests come; its P99 goes once there are enough for one. */
static void estimate(const struct gw_load_lengths *l, double prior, double max, double *mean, double *p99)
{
    double p = clamp(prior, 1, max);
    *mean = clamp((p * GW_LOAD_PRIOR + l->sum) / (GW_LOAD_PRIOR + l->count), 1, max);
    *p99 = l->count >= 100 ? p99_of(l) : fmax(p * GW_LOAD_PRIOR_P99, l->count ? p99_of(l) : 1);
    *p99 = clamp(*p99, *mean, max);
}

/* ---- time ---- */

/* Moves to now's slot; those that are passed over are emptied. */
static struct gw_load_slot *slot_at(struct gw_load *load, int64_t now_us)
{
    int64_t slot = (now_us - load->begun_us) / (GW_LOAD_SLOT_S * GW_US_PER_S);
    if (slot - load->slot > GW_LOAD_SLOTS) load->slot = slot - GW_LOAD_SLOTS;
    while (load->slot < slot) memset(&load->slots[++load->slot % GW_LOAD_SLOTS], 0, sizeof *load->slots);
    return &load->slots[load->slot % GW_LOAD_SLOTS];
}

/* Seconds that the slots cover. */
static double covered_s(const struct gw_load *load, int64_t now_us)
{
    double since_s = (double)(now_us - load->begun_us) / (double)GW_US_PER_S;
    double in_slot_s = since_s - (double)load->slot * GW_LOAD_SLOT_S;
    double most_s = (GW_LOAD_SLOTS - 1) * GW_LOAD_SLOT_S + in_slot_s;
    return since_s < most_s ? since_s : most_s;
}

void gw_load_init(struct gw_load *load, uint32_t context, int64_t now_us)
{
    *load = (struct gw_load){.begun_us = now_us, .context = context > 0 ? context : 1};
}

void gw_load_fini(struct gw_load *load)
{
    for (size_t i = 0; i < load->live.cap; i++)
        if (load->live.slots[i].id) free(load->live.slots[i].value);
    gw_id_map_fini(&load->live);
}

/* ---- what happens ---- */

void gw_load_arrived(struct gw_load *load, uint64_t request, uint32_t branches, uint32_t prompt_len,
                     int64_t now_us)
{
    struct gw_load_slot *slot = slot_at(load, now_us);
    slot->arrivals += branches;
    add_length(&slot->prompt, prompt_len, branches);
    struct live *live = calloc(1, sizeof *live);
    if (!live) return;
    live->branches = branches;
    if (gw_id_map_get(&load->live, request) || gw_id_map_put(&load->live, request, live) != GW_OK) free(live);
}

void gw_load_tokens(struct gw_load *load, uint64_t request, uint32_t count, int64_t now_us)
{
    struct live *live = gw_id_map_get(&load->live, request);
    slot_at(load, now_us)->tokens += count;
    if (live) live->tokens += count;
}

void gw_load_ended(struct gw_load *load, uint64_t request, bool whole, int64_t now_us)
{
    struct live *live = gw_id_map_get(&load->live, request);
    if (!live) return;
    if (whole && live->branches)
        add_length(&slot_at(load, now_us)->output, (double)live->tokens / live->branches, live->branches);
    gw_id_map_remove(&load->live, request);
    free(live);
}

/* ---- what is known ---- */

void gw_load_read(struct gw_load *load, int64_t now_us, struct gw_plan_load *out)
{
    struct gw_load_lengths prompt = {0}, output = {0};
    double arrivals = 0;
    (void)slot_at(load, now_us);
    for (int i = 0; i < GW_LOAD_SLOTS; i++) {
        arrivals += load->slots[i].arrivals;
        add_lengths(&prompt, &load->slots[i].prompt);
        add_lengths(&output, &load->slots[i].output);
    }
    double prior_s = GW_LOAD_PRIOR / GW_LOAD_PRIOR_RPS;
    out->arrival_rps = (GW_LOAD_PRIOR + arrivals) / (prior_s + covered_s(load, now_us));
    estimate(&prompt, GW_LOAD_PRIOR_PROMPT, load->context, &out->prompt_mean, &out->prompt_p99);
    estimate(&output, GW_LOAD_PRIOR_OUTPUT, load->context, &out->output_mean, &out->output_p99);
    /* prompt and output share the context; the sum of both P99 is what memory is reserved for */
    if (out->prompt_p99 + out->output_p99 > load->context)
        out->prompt_p99 = clamp(load->context - out->output_p99, out->prompt_mean, load->context);
    out->concurrency_max = 0;
}

double gw_load_rps(struct gw_load *load, int64_t now_us)
{
    double arrivals = 0;
    (void)slot_at(load, now_us);
    double s = covered_s(load, now_us);
    for (int i = 0; i < GW_LOAD_SLOTS; i++) arrivals += load->slots[i].arrivals;
    return s > 0 ? arrivals / s : 0;
}

double gw_load_tokens_s(struct gw_load *load, int64_t now_us)
{
    const struct gw_load_slot *now = slot_at(load, now_us);
    if (load->slot == 0) {
        double s = covered_s(load, now_us);
        return s > 0 ? (double)now->tokens / s : 0;
    }
    return (double)load->slots[(load->slot - 1) % GW_LOAD_SLOTS].tokens / GW_LOAD_SLOT_S;
}

static bool differ(double a, double b)
{
    return a > b * GW_LOAD_CHANGE || b > a * GW_LOAD_CHANGE;
}

bool gw_load_changed(const struct gw_plan_load *before, const struct gw_plan_load *now)
{
    bool idle = before->arrival_rps < GW_LOAD_IDLE_RPS && now->arrival_rps < GW_LOAD_IDLE_RPS;
    return (!idle && differ(before->arrival_rps, now->arrival_rps)) ||
           differ(before->prompt_mean, now->prompt_mean) || differ(before->output_mean, now->output_mean);
}
