#include "controller/plan/shape_internal.h"

#include <math.h>

/* Batch at which a mix of decode and prefill is balanced: between one request and a full batch. */
#define MIX_BATCH 16.0

static double speed_of(const struct shaping *s, uint32_t slot, enum balance by)
{
    const struct gw_plan_type *t = shaping_type(s, slot);
    const struct gw_plan_load *l = s->in->load;
    double bytes = t->bytes_s / t->decode_factor, flop = t->flop_s / t->prefill_factor;
    switch (by) {
    case BY_BANDWIDTH: return bytes;
    case BY_FLOPS: return flop;
    case BY_MEMORY: return (double)t->memory_bytes;
    default:
        return 1 / (l->output_mean / MIX_BATCH / bytes +
                    (l->prompt_mean + l->output_mean) * 2 / s->in->model->weight_bytes / flop);
    }
}

/* ---- shares to the ranks of a stage, groups to stages ---- */

void shaping_deal_shares(const struct shaping *s, const uint8_t *slot, uint32_t n, enum balance by,
                         uint16_t *width)
{
    double speed[GW_SHAPE_RANKS_MAX];
    for (uint32_t i = 0; i < n; i++) {
        speed[i] = speed_of(s, slot[i], by);
        width[i] = 1;
    }
    for (uint32_t left = s->in->model->shares - n; left > 0; left--) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < n; i++)
            if ((width[i] + 1) * speed[best] < (width[best] + 1) * speed[i]) best = i;
        width[best]++;
    }
}

/* A stage with g groups takes fixed + g * each (relative seconds), and has room for `most` groups. */
struct stage_need {
    double fixed, each;
    uint32_t most;
};

/* Adds one rank of a stage: it is as slow as its slowest one and as small as its smallest. */
static void add_need(const struct shaping *s, const struct gw_layout_rank *r, bool first, bool last,
                     enum balance by, struct stage_need *need)
{
    const struct gw_plan_model *m = s->in->model;
    const struct gw_plan_load *l = s->in->load;
    /* a rectangle of such a stage; its layers count as all the model's do in the mean */
    uint32_t g0 = first ? 0 : last ? m->groups - 1 : 1, g1 = last ? m->groups : g0 + 1;
    struct gw_cell_rect c = {(uint16_t)g0, (uint16_t)g1, r->cells.s0, r->cells.s1};
    double layers = gw_plan_layers(m, g0, g1), speed = speed_of(s, r->device, by);
    double tables = first || last ? (double)gw_plan_table_bytes(m, c) : 0;
    struct gw_cell_rect all = {0, (uint16_t)m->groups, r->cells.s0, r->cells.s1};
    double layer = (double)(gw_plan_weight_bytes(m, all) - gw_plan_table_bytes(m, all)) / m->layers;
    double kv = (double)gw_plan_kv_token_bytes(m, c) / layers * (l->prompt_p99 + l->output_p99);
    double room = (double)shaping_type(s, r->device)->memory_bytes * (1 - s->headroom) - tables;
    double fit = room > 0 ? floor(room / (layer + kv)) : 0; /* layers */
    double each = layer * m->layers / m->groups / speed;
    double fixed = last ? tables / (first && !m->tied ? 2 : 1) / speed : 0; /* the head is read every step */
    /* the last group may be short: with it, g groups have layers - (groups - g) * G layers */
    double most = last ? m->groups - ceil((m->layers - fit) / m->group_layers) : floor(fit / m->group_layers);
    if (most < need->most) need->most = most < 0 ? 0 : (uint32_t)most;
    if (fixed > need->fixed) need->fixed = fixed;
    if (each > need->each) need->each = each;
}

static struct stage_need need_of(const struct shaping *s, const struct gw_layout_rank *ranks, uint32_t n,
                                 enum balance by)
{
    uint32_t stages = s->now.stages;
    struct stage_need need = {.most = s->in->model->groups - stages + 1};
    for (uint32_t i = 0; i < n; i++) {
        if (i && s->even && shaping_type(s, ranks[i].device) == shaping_type(s, ranks[i - 1].device) &&
            ranks[i].cells.s1 - ranks[i].cells.s0 == ranks[i - 1].cells.s1 - ranks[i - 1].cells.s0)
            continue; /* like the one before */
        add_need(s, &ranks[i], ranks->stage == 0, ranks->stage + 1u == stages, by, &need);
    }
    return need;
}

bool shaping_deal_groups(const struct shaping *s, enum balance by, bool fastest, uint16_t *groups)
{
    struct stage_need need[GW_SHAPE_RANKS_MAX] = {0};
    uint32_t stages = s->now.stages;
    for (uint32_t i = 0, next; i < s->now.ranks_len; i = next) {
        uint16_t k = s->now.ranks[i].stage;
        for (next = i + 1; next < s->now.ranks_len && s->now.ranks[next].stage == k;) next++;
        need[k] = need_of(s, &s->now.ranks[i], next - i, by);
        if (need[k].most < 1) return false;
        groups[k] = 1;
    }
    for (uint32_t left = s->in->model->groups - stages; left > 0; left--) {
        uint32_t best = stages;
        double best_s = 0;
        for (uint32_t k = 0; k < stages; k++) {
            double t = fastest ? need[k].each : need[k].fixed + (groups[k] + 1) * need[k].each;
            if (groups[k] < need[k].most && (best == stages || t < best_s)) {
                best = k;
                best_s = t;
            }
        }
        if (best == stages) return false;
        groups[best]++;
    }
    return true;
}
