#include "migrate/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bounds on numbers from outside: far beyond any machine, far below where sums of products overflow. */
#define BYTES_MAX ((uint64_t)1 << 50)
#define RATE_MAX  1e18
#define TIME_MAX  1e9
#define MONEY_MAX 1e9
#define UNITS_MAX (1u << 22) /* FFN units of a layer */

static uint16_t max16(uint16_t a, uint16_t b)
{
    return a > b ? a : b;
}
static uint16_t min16(uint16_t a, uint16_t b)
{
    return a < b ? a : b;
}

struct gw_cell_rect gw_rect_meet(struct gw_cell_rect a, struct gw_cell_rect b)
{
    struct gw_cell_rect r = {max16(a.g0, b.g0), min16(a.g1, b.g1), max16(a.s0, b.s0), min16(a.s1, b.s1)};
    if (gw_rect_empty(r)) r = (struct gw_cell_rect){0};
    return r;
}

uint32_t gw_plan_layers(const struct gw_plan_model *m, uint32_t g0, uint32_t g1)
{
    uint32_t first = g0 * m->group_layers, last = g1 * m->group_layers;
    if (last > m->layers) last = m->layers;
    return last > first ? last - first : 0;
}

/* Units of a dimension that shares [s0, s1) hold. */
static uint64_t cut_units(const struct gw_plan_model *m, uint32_t units, struct gw_cell_rect r)
{
    return (uint64_t)r.s1 * units / m->shares - (uint64_t)r.s0 * units / m->shares;
}

/* Share s uses the KV heads from floor(s·H/S) to ceil((s+1)·H/S). */
static uint64_t kv_heads_of(const struct gw_plan_model *m, struct gw_cell_rect r)
{
    return ((uint64_t)r.s1 * m->kv_heads + m->shares - 1) / m->shares -
           (uint64_t)r.s0 * m->kv_heads / m->shares;
}

uint64_t gw_plan_table_bytes(const struct gw_plan_model *m, struct gw_cell_rect r)
{
    if (gw_rect_empty(r)) return 0;
    uint64_t tables = (uint64_t)(r.g0 == 0) + (r.g1 == m->groups);
    if (m->tied && tables == 2) tables = 1;
    return tables * cut_units(m, m->vocab, r) * m->vocab_row_bytes;
}

/* Of a rectangle's layers those that have one FFN where others have experts. */
static uint32_t dense_layers(const struct gw_plan_model *m, struct gw_cell_rect r)
{
    uint32_t g0 = min16(r.g0, (uint16_t)m->groups), g1 = min16(r.g1, (uint16_t)m->groups);
    return (uint32_t)m->dense.before[g1] - m->dense.before[g0];
}

uint64_t gw_plan_weight_bytes(const struct gw_plan_model *m, struct gw_cell_rect r)
{
    if (gw_rect_empty(r)) return 0;
    uint64_t shares = (uint64_t)(r.s1 - r.s0), kv = m->kv_head_bytes * kv_heads_of(m, r);
    uint64_t layer = m->attn_share_bytes * shares + m->ffn_unit_bytes * cut_units(m, m->ffn_units, r) +
                     m->norm_layer_bytes + kv;
    uint64_t bytes = gw_plan_table_bytes(m, r);
    uint32_t dense = dense_layers(m, r);
    if (dense > 0)
        bytes += dense * (m->dense.attn_share_bytes * shares +
                          m->dense.ffn_unit_bytes * cut_units(m, m->dense.ffn_units, r) +
                          m->dense.norm_layer_bytes + kv);
    return bytes + layer * (gw_plan_layers(m, r.g0, r.g1) - dense);
}

double gw_plan_idle_bytes(const struct gw_plan_model *m, struct gw_cell_rect r)
{
    if (gw_rect_empty(r) || m->ffn_used <= 0) return 0;
    return (double)(m->ffn_unit_bytes * cut_units(m, m->ffn_units, r) *
                    (gw_plan_layers(m, r.g0, r.g1) - dense_layers(m, r))) *
           (1 - m->ffn_used);
}

bool gw_plan_even(const struct gw_plan_model *m)
{
    return m->kv_heads == m->shares && m->ffn_units % m->shares == 0 && m->dense.ffn_units % m->shares == 0 &&
           m->vocab % m->shares == 0;
}

uint64_t gw_plan_kv_token_bytes(const struct gw_plan_model *m, struct gw_cell_rect r)
{
    if (gw_rect_empty(r)) return 0;
    return m->kv_token_bytes * kv_heads_of(m, r) * gw_plan_layers(m, r.g0, r.g1);
}

/* ---- checks of what came from outside ---- */

static bool within(double v, double min, double max)
{
    return isfinite(v) && v >= min && v <= max;
}

static bool link_good(const struct gw_plan_link *l)
{
    return within(l->bytes_s, 1, RATE_MAX) && within(l->latency_s, 0, TIME_MAX);
}

static bool dense_good(const struct gw_plan_model *m)
{
    const struct gw_plan_dense *d = &m->dense;
    if (d->before[0] != 0 || d->ffn_units > UNITS_MAX) return false;
    for (uint32_t g = 0; g < m->groups; g++)
        if (d->before[g + 1] < d->before[g] ||
            (uint32_t)d->before[g + 1] - d->before[g] > gw_plan_layers(m, g, g + 1))
            return false;
    return true;
}

gw_err_t gw_plan_model_check(const struct gw_plan_model *m, struct gw_err_ctx *ctx)
{
    if (m->layers < 1 || m->group_layers < 1 || m->groups > GW_PLAN_GROUPS_MAX || m->groups < 1 ||
        m->groups != (m->layers + m->group_layers - 1) / m->group_layers)
        return gw_fail(ctx, GW_ERR_INPUT, "model: %u layers in %u groups of %u", m->layers, m->groups,
                       m->group_layers);
    if (m->shares < 1 || m->shares > GW_PLAN_SHARES_MAX || m->kv_heads < 1 || m->kv_heads > m->shares)
        return gw_fail(ctx, GW_ERR_INPUT, "model: %u shares of %u key-value heads", m->shares, m->kv_heads);
    const uint64_t bytes[] = {m->attn_share_bytes,       m->kv_head_bytes,        m->ffn_unit_bytes,
                              m->norm_layer_bytes,       m->vocab_row_bytes,      m->kv_token_bytes,
                              m->dense.attn_share_bytes, m->dense.ffn_unit_bytes, m->dense.norm_layer_bytes};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++)
        if (bytes[i] > ((uint64_t)1 << 36))
            return gw_fail(ctx, GW_ERR_INPUT, "model: a part of 64 GiB or more");
    if (m->kv_token_bytes < 1 || !within(m->weight_bytes, 0.125, 8) || !within(m->ffn_used, 0, 1) ||
        !within(m->attn_flop, 0, RATE_MAX) || m->hidden > (1u << 20) || m->vocab > (1u << 24) ||
        m->ffn_units > UNITS_MAX || !dense_good(m))
        return gw_fail(ctx, GW_ERR_INPUT, "model: sizes beyond bounds");
    if (gw_plan_weight_bytes(m, (struct gw_cell_rect){0, (uint16_t)m->groups, 0, (uint16_t)m->shares}) >
        BYTES_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "model: more than 2^50 bytes of weights");
    return GW_OK;
}

gw_err_t gw_plan_load_check(const struct gw_plan_load *l, struct gw_err_ctx *ctx)
{
    const double tokens = 1e9;
    if (!within(l->arrival_rps, 0, TIME_MAX))
        return gw_fail(ctx, GW_ERR_INPUT, "load: arrival rate %g is none", l->arrival_rps);
    if (!within(l->prompt_mean, 1, tokens) || !within(l->output_mean, 1, tokens) ||
        !within(l->prompt_p99, l->prompt_mean, tokens) || !within(l->output_p99, l->output_mean, tokens))
        return gw_fail(ctx, GW_ERR_INPUT, "load: lengths must be 1 <= mean <= p99");
    if (!within(l->slo_ttft_s, 0, TIME_MAX) || !within(l->slo_tpot_s, 0, TIME_MAX) ||
        !within(l->concurrency_max, 0, tokens))
        return gw_fail(ctx, GW_ERR_INPUT, "load: an SLO or the concurrency is out of range");
    return GW_OK;
}

static gw_err_t check_type(const struct gw_plan_fleet *f, const struct gw_plan_type *t,
                           struct gw_err_ctx *ctx)
{
    if (t->profile >= f->profiles_len || t->memory_bytes < 1 || t->memory_bytes > BYTES_MAX ||
        !within(t->bytes_s, 1, RATE_MAX) || !within(t->flop_s, 1, RATE_MAX) ||
        !within(t->decode_factor, 1e-3, 1e3) || !within(t->prefill_factor, 1e-3, 1e3) ||
        !within(t->price_usd_h, 0, MONEY_MAX) || t->instance_devices > GW_PLAN_DEVICES_MAX ||
        !link_good(&t->intra) || !link_good(&t->inter))
        return gw_fail(ctx, GW_ERR_INPUT, "device type '%s' has a number out of range", t->name);
    return GW_OK;
}

static gw_err_t check_instance(const struct gw_plan_fleet *f, uint32_t i, struct gw_err_ctx *ctx)
{
    const struct gw_plan_instance *in = &f->instances[i];
    uint32_t expected = i ? f->instances[i - 1].first_device + f->instances[i - 1].devices : 0;
    if (in->zone >= f->zones_len || in->first_device != expected || in->devices < 1 ||
        in->devices > f->devices_len - expected || !link_good(&in->intra) || !link_good(&in->inter) ||
        !within(in->price_usd_h, 0, MONEY_MAX) || !within(in->doomed_at_s, 0, TIME_MAX))
        return gw_fail(ctx, GW_ERR_INPUT, "instance '%s' has a number out of range", in->id);
    return GW_OK;
}

static gw_err_t check_device(const struct gw_plan_fleet *f, const struct gw_plan_model *m, uint32_t i,
                             struct gw_err_ctx *ctx)
{
    const struct gw_plan_device *d = &f->devices[i];
    if (d->instance >= f->instances_len || d->type >= f->types_len ||
        i - f->instances[d->instance].first_device >= f->instances[d->instance].devices)
        return gw_fail(ctx, GW_ERR_INPUT, "device %u belongs to no instance or type", i);
    if (d->holds.g1 > m->groups || d->holds.s1 > m->shares || d->holds.g0 > d->holds.g1 ||
        d->holds.s0 > d->holds.s1 || d->kv_cell_bytes > BYTES_MAX / (GW_PLAN_GROUPS_MAX * GW_PLAN_SHARES_MAX))
        return gw_fail(ctx, GW_ERR_INPUT, "instance '%s' device %u holds what the model has not",
                       f->instances[d->instance].id, d->index);
    return GW_OK;
}

static gw_err_t check_apart(const struct gw_plan_fleet *f, struct gw_err_ctx *ctx)
{
    if (f->apart_len > GW_PLAN_APART_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "fleet: at most %d pairs of devices to keep apart",
                       GW_PLAN_APART_MAX);
    for (uint32_t i = 0; i < f->apart_len; i++)
        if (f->apart[i].a >= f->devices_len || f->apart[i].b >= f->devices_len ||
            f->apart[i].a == f->apart[i].b)
            return gw_fail(ctx, GW_ERR_INPUT, "fleet: pair %u to keep apart is none of devices", i);
    return GW_OK;
}

gw_err_t gw_plan_fleet_check(const struct gw_plan_fleet *f, const struct gw_plan_model *m,
                             struct gw_err_ctx *ctx)
{
    if (f->devices_len > GW_PLAN_DEVICES_MAX || f->types_len > GW_PLAN_TYPES_MAX ||
        f->zones_len > GW_PLAN_ZONES_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "fleet: at most %d devices, %d types and %d zones",
                       GW_PLAN_DEVICES_MAX, GW_PLAN_TYPES_MAX, GW_PLAN_ZONES_MAX);
    if (!link_good(&f->zone_link) || !within(f->zone_usd_gb, 0, MONEY_MAX) ||
        !within(f->store_bytes_s, 1, RATE_MAX))
        return gw_fail(ctx, GW_ERR_INPUT, "fleet: zone link, price or store rate out of range");
    for (uint32_t i = 0; i < f->types_len; i++) TRY(check_type(f, &f->types[i], ctx));
    for (uint32_t i = 0; i < f->instances_len; i++) TRY(check_instance(f, i, ctx));
    for (uint32_t i = 0; i < f->devices_len; i++) TRY(check_device(f, m, i, ctx));
    return check_apart(f, ctx);
}

/* ---- layouts ---- */

static int compare_ranks(const void *pa, const void *pb)
{
    const struct gw_layout_rank *a = pa, *b = pb;
    if (a->pipeline != b->pipeline) return a->pipeline < b->pipeline ? -1 : 1;
    if (a->stage != b->stage) return a->stage < b->stage ? -1 : 1;
    if (a->cells.s0 != b->cells.s0) return a->cells.s0 < b->cells.s0 ? -1 : 1;
    return a->device < b->device ? -1 : a->device > b->device;
}

void gw_layout_sort(struct gw_layout *layout)
{
    if (layout->ranks_len) qsort(layout->ranks, layout->ranks_len, sizeof *layout->ranks, compare_ranks);
}

void gw_layout_fini(struct gw_layout *layout)
{
    free(layout->ranks);
    *layout = (struct gw_layout){0};
}

/* The ranks of one stage, [first, end): consecutive shares over the same groups, from group g0 on. */
static gw_err_t check_stage(const struct gw_layout *l, const struct gw_plan_fleet *f,
                            const struct gw_plan_model *m, uint32_t first, uint32_t end,
                            struct gw_err_ctx *ctx)
{
    const struct gw_layout_rank *head = &l->ranks[first];
    uint16_t share = 0;
    uint32_t zone = f->instances[f->devices[head->device].instance].zone;
    for (uint32_t i = first; i < end; i++) {
        const struct gw_layout_rank *r = &l->ranks[i];
        if (r->cells.g0 != head->cells.g0 || r->cells.g1 != head->cells.g1 || r->cells.s0 != share ||
            gw_rect_empty(r->cells))
            return gw_fail(ctx, GW_ERR_INPUT, "rank %u: cells of its stage are held twice or not at all", i);
        if (f->instances[f->devices[r->device].instance].zone != zone)
            return gw_fail(ctx, GW_ERR_INPUT, "rank %u: its stage spans zones", i);
        share = r->cells.s1;
    }
    if (share != m->shares) return gw_fail(ctx, GW_ERR_INPUT, "rank %u: its stage lacks shares", first);
    return GW_OK;
}

/* Has one pipeline, ranks [first, end), both of a pair that must be apart? */
static gw_err_t check_pairs(const struct gw_layout *l, const struct gw_plan_fleet *f, uint32_t first,
                            uint32_t end, struct gw_err_ctx *ctx)
{
    for (uint32_t i = 0; i < f->apart_len; i++) {
        uint32_t found = 0;
        for (uint32_t r = first; r < end; r++)
            found += l->ranks[r].device == f->apart[i].a || l->ranks[r].device == f->apart[i].b;
        if (found > 1)
            return gw_fail(ctx, GW_ERR_INPUT,
                           "rank %u: its pipeline has devices %u and %u, which must be apart", first,
                           f->apart[i].a, f->apart[i].b);
    }
    return GW_OK;
}

/* The ranks of one pipeline, [first, end). */
static gw_err_t check_pipeline(const struct gw_layout *l, const struct gw_plan_fleet *f,
                               const struct gw_plan_model *m, uint32_t first, uint32_t end,
                               struct gw_err_ctx *ctx)
{
    uint16_t group = 0, stage = 0;
    uint32_t profile = f->types[f->devices[l->ranks[first].device].type].profile;
    for (uint32_t i = first; i < end; i++)
        if (f->types[f->devices[l->ranks[i].device].type].profile != profile)
            return gw_fail(ctx, GW_ERR_INPUT, "rank %u: its pipeline mixes numerics profiles", i);
    TRY(check_pairs(l, f, first, end, ctx));
    for (uint32_t i = first, next; i < end; i = next, stage++) {
        for (next = i + 1; next < end && l->ranks[next].stage == l->ranks[i].stage;) next++;
        if (l->ranks[i].stage != stage || l->ranks[i].cells.g0 != group)
            return gw_fail(ctx, GW_ERR_INPUT, "rank %u: stages are not consecutive", i);
        TRY(check_stage(l, f, m, i, next, ctx));
        group = l->ranks[i].cells.g1;
    }
    if (group != m->groups)
        return gw_fail(ctx, GW_ERR_INPUT, "rank %u: its pipeline lacks layer groups", first);
    return GW_OK;
}

static gw_err_t check_rank(const struct gw_layout *l, const struct gw_plan_fleet *f,
                           const struct gw_plan_model *m, uint32_t i, uint8_t *used, struct gw_err_ctx *ctx)
{
    const struct gw_layout_rank *r = &l->ranks[i];
    if (r->device >= f->devices_len || r->pipeline >= l->pipelines || r->cells.g1 > m->groups ||
        r->cells.s1 > m->shares)
        return gw_fail(ctx, GW_ERR_INPUT, "rank %u: no such device, pipeline or cells", i);
    if (i && compare_ranks(r - 1, r) >= 0) return gw_fail(ctx, GW_ERR_INPUT, "rank %u is out of order", i);
    if (used[r->device]++)
        return gw_fail(ctx, GW_ERR_INPUT, "rank %u: device %u is used twice", i, r->device);
    const struct gw_plan_device *d = &f->devices[r->device];
    if (f->instances[d->instance].doomed_at_s > 0)
        return gw_fail(ctx, GW_ERR_INPUT, "rank %u: instance '%s' is doomed", i,
                       f->instances[d->instance].id);
    if (gw_plan_weight_bytes(m, r->cells) > f->types[d->type].memory_bytes)
        return gw_fail(ctx, GW_ERR_INPUT, "rank %u: more weights than its device has memory", i);
    return GW_OK;
}

static gw_err_t check_ranks(const struct gw_layout *l, const struct gw_plan_fleet *f,
                            const struct gw_plan_model *m, uint8_t *used, struct gw_err_ctx *ctx)
{
    uint32_t pipelines = 0;
    for (uint32_t i = 0; i < l->ranks_len; i++) TRY(check_rank(l, f, m, i, used, ctx));
    for (uint32_t i = 0, next; i < l->ranks_len; i = next, pipelines++) {
        for (next = i + 1; next < l->ranks_len && l->ranks[next].pipeline == l->ranks[i].pipeline;) next++;
        TRY(check_pipeline(l, f, m, i, next, ctx));
    }
    if (pipelines != l->pipelines)
        return gw_fail(ctx, GW_ERR_INPUT, "%u of %u pipelines have ranks", pipelines, l->pipelines);
    return GW_OK;
}

gw_err_t gw_layout_check(const struct gw_layout *l, const struct gw_plan_fleet *f,
                         const struct gw_plan_model *m, struct gw_err_ctx *ctx)
{
    uint8_t *used = calloc(f->devices_len + 1, 1);
    if (!used) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    gw_err_t err = check_ranks(l, f, m, used, ctx);
    free(used);
    return err;
}

/* Numbers the stages of ranks [first, end), sorted by their first group; false if they make no pipeline. */
static bool number_stages(struct gw_layout_rank *ranks, uint32_t n, const struct gw_plan_model *m)
{
    uint16_t stage = 0, group = 0, share = (uint16_t)m->shares;
    for (uint32_t i = 0; i < n; i++) {
        struct gw_cell_rect c = ranks[i].cells;
        bool begins = share == m->shares;
        if (begins && i) stage++;
        if (c.s0 != (begins ? 0 : share)) return false;
        if (begins ? c.g0 != group : c.g0 != ranks[i - 1].cells.g0 || c.g1 != group) return false;
        group = c.g1;
        share = c.s1;
        ranks[i].stage = stage;
    }
    return group == m->groups && share == m->shares;
}

static int compare_holdings(const void *pa, const void *pb)
{
    const struct gw_layout_rank *a = pa, *b = pb;
    if (a->pipeline != b->pipeline) return a->pipeline < b->pipeline ? -1 : 1;
    if (a->cells.g0 != b->cells.g0) return a->cells.g0 < b->cells.g0 ? -1 : 1;
    if (a->cells.s0 != b->cells.s0) return a->cells.s0 < b->cells.s0 ? -1 : 1;
    return a->device < b->device ? -1 : a->device > b->device;
}

gw_err_t gw_layout_of_fleet(const struct gw_plan_fleet *f, const struct gw_plan_model *m,
                            struct gw_layout *out)
{
    uint32_t len = 0, kept = 0, pipelines = 0;
    struct gw_layout_rank *ranks = calloc(f->devices_len + 1, sizeof *ranks);
    if (!ranks) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < f->devices_len; i++)
        if (f->devices[i].pipeline != GW_PLAN_NONE && !gw_rect_empty(f->devices[i].holds))
            ranks[len++] = (struct gw_layout_rank){i, f->devices[i].pipeline, 0, f->devices[i].holds};
    if (len) qsort(ranks, len, sizeof *ranks, compare_holdings);
    for (uint32_t i = 0, next; i < len; i = next) {
        for (next = i + 1; next < len && ranks[next].pipeline == ranks[i].pipeline;) next++;
        if (!number_stages(ranks + i, next - i, m)) continue;
        for (uint32_t j = i; j < next; j++) {
            ranks[kept] = ranks[j];
            ranks[kept++].pipeline = pipelines;
        }
        pipelines++;
    }
    *out = (struct gw_layout){ranks, kept, pipelines};
    return GW_OK;
}
