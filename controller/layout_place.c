#include "controller/layout_place.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "controller/plan/assign.h"
#include "controller/plan/mapping.h"

/* Values are reusable KiB: sums over a matrix stay far from what a misfit costs, and that from overflow. */
#define VALUE_SHIFT 10
#define MISFIT      (-(GW_ASSIGN_VALUE_MAX / GW_ASSIGN_MAX))

/* Devices of one profile in one zone. */
struct pool {
    uint32_t profile, zone;
    int64_t value; /* reusable KiB for the shape at hand */
};

struct placer {
    const struct gw_plan_input *in;
    struct gw_layout_rank *ranks; /* [devices] the answer */
    uint32_t ranks_len, pipelines;
    bool *used;     /* [devices] */
    uint32_t *left; /* [kinds] copies that are not placed yet */
    uint32_t candidates[GW_ASSIGN_MAX];
    uint32_t column[GW_ASSIGN_MAX];
    int64_t *value; /* [GW_ASSIGN_MAX][GW_ASSIGN_MAX] */
};

uint64_t gw_layout_rank_bytes(const struct gw_plan_input *in, struct gw_cell_rect cells)
{
    double tokens = in->load->prompt_p99 + in->load->output_p99;
    double kv = (double)gw_plan_kv_token_bytes(in->model, cells) * tokens;
    return gw_plan_weight_bytes(in->model, cells) + (uint64_t)ceil(kv);
}

static const struct gw_plan_device *device_at(const struct placer *p, uint32_t device)
{
    return &p->in->fleet->devices[device];
}

static uint32_t zone_of(const struct placer *p, uint32_t device)
{
    return p->in->fleet->instances[device_at(p, device)->instance].zone;
}

static uint32_t profile_of(const struct placer *p, uint32_t device)
{
    return p->in->fleet->types[device_at(p, device)->type].profile;
}

static bool usable(const struct placer *p, uint32_t device)
{
    return !p->used[device] && p->in->fleet->instances[device_at(p, device)->instance].doomed_at_s <= 0;
}

/* Reusable KiB, or MISFIT. */
static int64_t value_of(const struct placer *p, struct gw_cell_rect cells, uint32_t device)
{
    const struct gw_plan_device *d = device_at(p, device);
    if (gw_layout_rank_bytes(p->in, cells) > p->in->fleet->types[d->type].memory_bytes) return MISFIT;
    return (int64_t)(gw_mapping_reuse(p->in->model, d, cells) >> VALUE_SHIFT);
}

static void put_rank(struct placer *p, uint32_t device, const struct gw_layout_slot *slot)
{
    p->used[device] = true;
    p->ranks[p->ranks_len++] = (struct gw_layout_rank){
        .device = device, .pipeline = p->pipelines, .stage = slot->stage, .cells = slot->cells};
}

/* ---- 1. what serves already ---- */

static bool same_shape(const struct gw_layout_kind *kind, const struct gw_layout_rank *ranks, uint32_t n)
{
    if (kind->ranks_len != n) return false;
    for (uint32_t i = 0; i < n; i++)
        if (kind->ranks[i].stage != ranks[i].stage || !gw_rect_equal(kind->ranks[i].cells, ranks[i].cells))
            return false;
    return true;
}

static bool all_usable(const struct placer *p, const struct gw_layout_rank *ranks, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!usable(p, ranks[i].device) || profile_of(p, ranks[i].device) != profile_of(p, ranks[0].device))
            return false;
    return true;
}

static void keep_served(struct placer *p, const struct gw_layout_kind *kinds, uint32_t kinds_len,
                        const struct gw_layout *served)
{
    for (uint32_t i = 0, next; i < served->ranks_len; i = next) {
        const struct gw_layout_rank *ranks = &served->ranks[i];
        for (next = i; next < served->ranks_len && served->ranks[next].pipeline == ranks->pipeline;) next++;
        if (!all_usable(p, ranks, next - i)) continue;
        for (uint32_t k = 0; k < kinds_len; k++) {
            if (p->left[k] == 0 || !same_shape(&kinds[k], ranks, next - i)) continue;
            for (uint32_t r = 0; r < next - i; r++) put_rank(p, ranks[r].device, &kinds[k].ranks[r]);
            p->pipelines++;
            p->left[k]--;
            break;
        }
    }
}

/* ---- 2. many at once ---- */

/* Free devices of the pool, those that hold something first when there are too many for a matrix. */
static uint32_t find_candidates(struct placer *p, uint32_t profile, uint32_t zone)
{
    uint32_t n = 0, devices = p->in->fleet->devices_len, free_len = 0;
    for (uint32_t d = 0; d < devices; d++)
        free_len += usable(p, d) && profile_of(p, d) == profile && zone_of(p, d) == zone;
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t d = 0; d < devices && n < GW_ASSIGN_MAX; d++) {
            if (!usable(p, d) || profile_of(p, d) != profile || zone_of(p, d) != zone) continue;
            bool holds = !gw_rect_empty(device_at(p, d)->holds);
            if (free_len <= GW_ASSIGN_MAX ? pass == 0 : holds == (pass == 0)) p->candidates[n++] = d;
        }
    return n;
}

/* The best assignment of `copies` times the slots to the n candidates; false if a slot would not fit. */
static bool assign(struct placer *p, const struct gw_layout_slot *slots, uint32_t slots_len, uint32_t copies,
                   uint32_t n, int64_t *sum)
{
    uint32_t rows = copies * slots_len;
    bool fits = rows <= n;
    *sum = 0;
    if (!fits) return false;
    memset(p->value, 0, (size_t)n * n * sizeof *p->value);
    for (uint32_t r = 0; r < slots_len; r++)
        for (uint32_t c = 0; c < n; c++)
            p->value[(size_t)r * n + c] = value_of(p, slots[r].cells, p->candidates[c]);
    for (uint32_t copy = 1; copy < copies; copy++)
        memcpy(p->value + (size_t)copy * slots_len * n, p->value, (size_t)slots_len * n * sizeof *p->value);
    gw_assign(p->value, n, p->column);
    for (uint32_t r = 0; r < rows; r++) {
        int64_t v = p->value[(size_t)r * n + p->column[r]];
        fits = fits && v != MISFIT;
        *sum += v;
    }
    return fits;
}

/* Places up to `most` copies over the candidates; returns how many. */
static uint32_t place_many(struct placer *p, const struct gw_layout_kind *kind, uint32_t n, uint32_t most)
{
    int64_t sum;
    uint32_t low = 0, high = n / kind->ranks_len;
    if (high > most) high = most;
    if (high > 0 && assign(p, kind->ranks, kind->ranks_len, high, n, &sum)) low = high;
    while (low < high) { /* `low` copies fit; more than `high` do not */
        uint32_t middle = (low + high + 1) / 2;
        if (assign(p, kind->ranks, kind->ranks_len, middle, n, &sum))
            low = middle;
        else
            high = middle - 1;
    }
    if (low == 0 || !assign(p, kind->ranks, kind->ranks_len, low, n, &sum)) return 0;
    for (uint32_t copy = 0; copy < low; copy++, p->pipelines++)
        for (uint32_t r = 0; r < kind->ranks_len; r++)
            put_rank(p, p->candidates[p->column[copy * kind->ranks_len + r]], &kind->ranks[r]);
    return low;
}

static int by_value(const void *pa, const void *pb)
{
    const struct pool *a = pa, *b = pb;
    if (a->value != b->value) return a->value > b->value ? -1 : 1;
    if (a->profile != b->profile) return a->profile < b->profile ? -1 : 1;
    return a->zone < b->zone ? -1 : a->zone > b->zone;
}

/* What the pool's free devices hold of the shape's cells, counted once per device. */
static int64_t pool_value(const struct placer *p, const struct gw_layout_kind *kind, uint32_t profile,
                          uint32_t zone)
{
    int64_t sum = 0;
    for (uint32_t d = 0; d < p->in->fleet->devices_len; d++) {
        int64_t best = 0;
        if (!usable(p, d) || profile_of(p, d) != profile || zone_of(p, d) != zone) continue;
        if (gw_rect_empty(device_at(p, d)->holds)) continue;
        for (uint32_t r = 0; r < kind->ranks_len; r++) {
            int64_t v = value_of(p, kind->ranks[r].cells, d);
            best = v > best ? v : best;
        }
        sum += best;
    }
    return sum;
}

static gw_err_t place_in_zones(struct placer *p, const struct gw_layout_kind *kind, uint32_t *left)
{
    const struct gw_plan_fleet *f = p->in->fleet;
    uint32_t n = 0;
    struct pool *pools = calloc((size_t)f->profiles_len * f->zones_len + 1, sizeof *pools);
    if (!pools) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < f->profiles_len; i++)
        for (uint32_t z = 0; z < f->zones_len; z++)
            pools[n++] = (struct pool){i, z, pool_value(p, kind, i, z)};
    qsort(pools, n, sizeof *pools, by_value);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t placed = 1; placed && *left; *left -= placed)
            placed = place_many(p, kind, find_candidates(p, pools[i].profile, pools[i].zone), *left);
    free(pools);
    return GW_OK;
}

/* ---- 3. stage by stage ---- */

static uint32_t stage_end(const struct gw_layout_kind *kind, uint32_t first)
{
    uint32_t i = first;
    while (i < kind->ranks_len && kind->ranks[i].stage == kind->ranks[first].stage) i++;
    return i;
}

/* Slots [first, end) in the best zone of the profile; false if none can hold them. */
static bool place_stage(struct placer *p, const struct gw_layout_kind *kind, uint32_t first, uint32_t end,
                        uint32_t profile)
{
    uint32_t best_zone = GW_PLAN_NONE;
    int64_t best = 0, sum;
    for (uint32_t z = 0; z < p->in->fleet->zones_len; z++) {
        uint32_t n = find_candidates(p, profile, z);
        if (!assign(p, &kind->ranks[first], end - first, 1, n, &sum)) continue;
        if (best_zone == GW_PLAN_NONE || sum > best) {
            best = sum;
            best_zone = z;
        }
    }
    if (best_zone == GW_PLAN_NONE) return false;
    uint32_t n = find_candidates(p, profile, best_zone);
    if (!assign(p, &kind->ranks[first], end - first, 1, n, &sum)) return false;
    for (uint32_t r = first; r < end; r++) put_rank(p, p->candidates[p->column[r - first]], &kind->ranks[r]);
    return true;
}

static bool place_over_zones(struct placer *p, const struct gw_layout_kind *kind, uint32_t profile)
{
    uint32_t before = p->ranks_len;
    for (uint32_t first = 0, end; first < kind->ranks_len; first = end) {
        end = stage_end(kind, first);
        if (place_stage(p, kind, first, end, profile)) continue;
        while (p->ranks_len > before) p->used[p->ranks[--p->ranks_len].device] = false;
        return false;
    }
    p->pipelines++;
    return true;
}

/* ---- all of it ---- */

static gw_err_t place_all(struct placer *p, const struct gw_layout_kind *kinds, uint32_t kinds_len)
{
    struct gw_layout served = {0};
    TRY(gw_layout_of_fleet(p->in->fleet, p->in->model, &served));
    keep_served(p, kinds, kinds_len, &served);
    gw_layout_fini(&served);
    for (uint32_t k = 0; k < kinds_len; k++) {
        TRY(place_in_zones(p, &kinds[k], &p->left[k]));
        for (uint32_t i = 0; i < p->in->fleet->profiles_len; i++)
            while (kinds[k].ranks[kinds[k].ranks_len - 1].stage > 0 && p->left[k] &&
                   place_over_zones(p, &kinds[k], i))
                p->left[k]--;
    }
    return GW_OK;
}

gw_err_t gw_layout_place(const struct gw_plan_input *in, const struct gw_layout_kind *kinds,
                         uint32_t kinds_len, struct gw_layout *out)
{
    struct placer *p = calloc(1, sizeof *p);
    gw_err_t err = GW_ERR_MEMORY;
    if (!p) return err;
    p->in = in;
    p->ranks = calloc(in->fleet->devices_len + 1, sizeof *p->ranks);
    p->used = calloc(in->fleet->devices_len + 1, sizeof *p->used);
    p->left = calloc(kinds_len + 1, sizeof *p->left);
    p->value = calloc((size_t)GW_ASSIGN_MAX * GW_ASSIGN_MAX, sizeof *p->value);
    if (p->ranks && p->used && p->left && p->value) {
        for (uint32_t k = 0; k < kinds_len; k++) p->left[k] = kinds[k].copies;
        err = place_all(p, kinds, kinds_len);
    }
    if (err == GW_OK) {
        *out = (struct gw_layout){p->ranks, p->ranks_len, p->pipelines};
        gw_layout_sort(out);
        p->ranks = NULL;
    }
    free(p->ranks);
    free(p->used);
    free(p->left);
    free(p->value);
    free(p);
    return err;
}
