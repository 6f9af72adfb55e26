#include "controller/plan/move.h"

#include <stdlib.h>
#include <string.h>

#include "controller/plan/cost.h"
#include "controller/plan/holders.h"

/* Bytes that wait per link, per instance; and within it. */
struct link_use {
    double in, out, files, inside;
};

struct mover {
    const struct gw_plan_fleet *fleet;
    const struct gw_plan_model *model;
    const struct gw_layout *layout;
    struct gw_layout old;
    struct gw_holders holders;
    uint32_t *rank_of;       /* per device: its rank in the layout; GW_PLAN_NONE */
    uint32_t *first_rank;    /* per new pipeline, and one more */
    struct link_use *use;    /* per instance */
    struct gw_move_step *kv; /* fetches of KV, by device */
    uint32_t kv_len, kv_cap;
    struct gw_move move;
    uint32_t steps_cap;
};

static gw_err_t push(struct gw_move_step **steps, uint32_t *len, uint32_t *cap, struct gw_move_step step)
{
    if (*len == *cap) {
        uint32_t next = *cap ? *cap * 2 : 64;
        struct gw_move_step *grown = realloc(*steps, next * sizeof *grown);
        if (!grown) return GW_ERR_MEMORY;
        *steps = grown;
        *cap = next;
    }
    (*steps)[(*len)++] = step;
    return GW_OK;
}

static gw_err_t emit(struct mover *m, struct gw_move_step step)
{
    return push(&m->move.steps, &m->move.steps_len, &m->steps_cap, step);
}

/* ---- KV: pipelines and their successors ---- */

static uint32_t end_of(const struct gw_layout *l, uint32_t first)
{
    uint32_t i = first;
    while (i < l->ranks_len && l->ranks[i].pipeline == l->ranks[first].pipeline) i++;
    return i;
}

/* The new pipeline with most of the devices of old ranks [first, end). */
static uint32_t find_successor(const struct mover *m, uint32_t first, uint32_t end)
{
    uint32_t best = GW_PLAN_NONE, best_count = 0;
    for (uint32_t i = first; i < end; i++) {
        uint32_t count = 0, at = m->rank_of[m->old.ranks[i].device];
        if (at == GW_PLAN_NONE || m->layout->ranks[at].pipeline == best) continue;
        for (uint32_t j = first; j < end; j++) {
            uint32_t other = m->rank_of[m->old.ranks[j].device];
            count +=
                other != GW_PLAN_NONE && m->layout->ranks[other].pipeline == m->layout->ranks[at].pipeline;
        }
        if (count > best_count) {
            best = m->layout->ranks[at].pipeline;
            best_count = count;
        }
    }
    if (best == GW_PLAN_NONE && m->layout->pipelines)
        best = m->old.ranks[first].pipeline % m->layout->pipelines;
    return best;
}

/* Do old ranks [first, end) stay as they are? */
static bool untouched(const struct mover *m, uint32_t first, uint32_t end, uint32_t successor)
{
    if (successor == GW_PLAN_NONE || m->first_rank[successor + 1] - m->first_rank[successor] != end - first)
        return false;
    for (uint32_t i = first; i < end; i++) {
        uint32_t at = m->rank_of[m->old.ranks[i].device];
        if (at == GW_PLAN_NONE || m->layout->ranks[at].pipeline != successor ||
            !gw_rect_equal(m->layout->ranks[at].cells, m->old.ranks[i].cells))
            return false;
    }
    return true;
}

static gw_err_t send_kv(struct mover *m, const struct gw_layout_rank *from, uint32_t successor)
{
    uint64_t each = m->fleet->devices[from->device].kv_cell_bytes;
    if (successor == GW_PLAN_NONE) m->move.recomputed_bytes += each * gw_rect_cells(from->cells);
    if (successor == GW_PLAN_NONE || each == 0) return GW_OK;
    for (uint32_t i = m->first_rank[successor]; i < m->first_rank[successor + 1]; i++) {
        const struct gw_layout_rank *to = &m->layout->ranks[i];
        struct gw_cell_rect cells = gw_rect_meet(from->cells, to->cells);
        if (gw_rect_empty(cells) || to->device == from->device) continue;
        struct gw_move_step step = {GW_MOVE_KV, to->device, from->device, cells, each * gw_rect_cells(cells)};
        TRY(push(&m->kv, &m->kv_len, &m->kv_cap, step));
    }
    return GW_OK;
}

static int by_device(const void *a, const void *b)
{
    const struct gw_move_step *x = a, *y = b;
    if (x->device != y->device) return x->device < y->device ? -1 : 1;
    if (x->cells.g0 != y->cells.g0) return x->cells.g0 < y->cells.g0 ? -1 : 1;
    if (x->cells.s0 != y->cells.s0) return x->cells.s0 < y->cells.s0 ? -1 : 1;
    return x->source < y->source ? -1 : x->source > y->source;
}

static gw_err_t plan_kv(struct mover *m)
{
    for (uint32_t i = 0, next; i < m->old.ranks_len; i = next) {
        next = end_of(&m->old, i);
        uint32_t successor = find_successor(m, i, next);
        if (untouched(m, i, next, successor)) continue;
        m->move.touched++;
        for (uint32_t r = i; r < next; r++) TRY(send_kv(m, &m->old.ranks[r], successor));
    }
    if (m->kv_len) qsort(m->kv, m->kv_len, sizeof *m->kv, by_device);
    return GW_OK;
}

/* ---- links ---- */

static void use_link(struct mover *m, const struct gw_move_step *s)
{
    const struct gw_plan_device *d = m->fleet->devices;
    uint32_t to = d[s->device].instance;
    double bytes = (double)s->bytes;
    if (s->source == GW_PLAN_NONE) {
        m->use[to].files += bytes;
        m->move.store_bytes += s->bytes;
        return;
    }
    uint32_t from = d[s->source].instance;
    if (from == to) {
        m->use[to].inside += bytes;
        return;
    }
    if (m->fleet->instances[from].zone != m->fleet->instances[to].zone) m->move.zone_bytes += s->bytes;
    /* a slower path than the instance's own link counts as more bytes on it */
    double path = gw_cost_link(m->fleet, from, to).bytes_s;
    m->use[to].in += bytes * m->fleet->instances[to].inter.bytes_s / path;
    m->use[from].out += bytes * m->fleet->instances[from].inter.bytes_s / path;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static void finish_links(struct mover *m)
{
    for (uint32_t i = 0; i < m->fleet->instances_len; i++) {
        const struct gw_plan_instance *in = &m->fleet->instances[i];
        const struct link_use *u = &m->use[i];
        double out = u->out / in->inter.bytes_s;
        double t = larger(larger(u->in / in->inter.bytes_s, out),
                          larger(u->files / m->fleet->store_bytes_s, u->inside / in->intra.bytes_s));
        m->move.seconds = larger(m->move.seconds, t);
        if (in->doomed_at_s > 0) m->move.late_s = larger(m->move.late_s, out - in->doomed_at_s);
    }
    m->move.usd = (double)m->move.zone_bytes * 1e-9 * m->fleet->zone_usd_gb;
}

/* ---- one device ---- */

struct device_state {
    uint32_t device;
    struct gw_cell_rect old, want; /* old: what is still there of it, from group `old.g0` on */
    uint64_t resident, room, kv_cell;
    bool dropped_early;
};

/* Bytes of weights and KV that go with part of what is held. */
static uint64_t drop_bytes(const struct mover *m, const struct device_state *d, struct gw_cell_rect part)
{
    return gw_plan_weight_bytes(m->model, part) + d->kv_cell * gw_rect_cells(part);
}

static gw_err_t drop_part(struct mover *m, struct device_state *d, struct gw_cell_rect part)
{
    if (gw_rect_empty(part)) return GW_OK;
    uint64_t bytes = drop_bytes(m, d, part);
    if (bytes > d->resident) bytes = d->resident; /* norms of cut groups are counted with each part */
    d->resident -= bytes;
    return emit(m, (struct gw_move_step){GW_MOVE_DROP, d->device, GW_PLAN_NONE, part, bytes});
}

/* Drops what is not wanted of the next group held; false in *more when there is none left. */
static gw_err_t drop_next(struct mover *m, struct device_state *d, bool *more)
{
    *more = d->old.g0 < d->old.g1;
    if (!*more) return GW_OK;
    uint16_t g = d->old.g0++;
    struct gw_cell_rect row = {g, (uint16_t)(g + 1), d->old.s0, d->old.s1};
    struct gw_cell_rect kept = gw_rect_meet(row, d->want), left = row, right = row;
    if (gw_rect_empty(kept)) return drop_part(m, d, row);
    left.s1 = kept.s0;
    right.s0 = kept.s1;
    TRY(drop_part(m, d, left));
    return drop_part(m, d, right);
}

/* Makes room for `bytes`: unwanted cells go early, then KV is evicted. */
static gw_err_t make_room(struct mover *m, struct device_state *d, uint64_t bytes)
{
    bool more = true;
    while (d->resident + bytes > d->room && more) {
        TRY(drop_next(m, d, &more));
        d->dropped_early = true;
    }
    if (d->resident + bytes <= d->room) return GW_OK;
    uint64_t over = d->resident + bytes - d->room;
    if (over > d->resident) over = d->resident;
    d->resident -= over;
    m->move.recomputed_bytes += over;
    return emit(m, (struct gw_move_step){GW_MOVE_EVICT, d->device, GW_PLAN_NONE,
                                         gw_rect_meet(d->old, d->want), over});
}

static gw_err_t fetch(struct mover *m, struct device_state *d, struct gw_move_step step)
{
    TRY(make_room(m, d, step.bytes));
    d->resident += step.bytes;
    m->move.weight_bytes += step.bytes;
    use_link(m, &step);
    return emit(m, step);
}

/* Weights of shares [s0, s1) of one group, cut where the source changes. */
static gw_err_t fetch_shares(struct mover *m, struct device_state *d, uint16_t g, uint16_t s0, uint16_t s1)
{
    for (uint16_t s = s0; s < s1;) {
        uint32_t source = gw_holders_pick(&m->holders, d->device, g, s);
        uint16_t end = (uint16_t)(s + 1);
        while (end < s1 && gw_holders_pick(&m->holders, d->device, g, end) == source) end++;
        struct gw_cell_rect cells = {g, (uint16_t)(g + 1), s, end};
        TRY(fetch(m, d,
                  (struct gw_move_step){GW_MOVE_WEIGHTS, d->device, source, cells,
                                        gw_plan_weight_bytes(m->model, cells)}));
        s = end;
    }
    return GW_OK;
}

static gw_err_t fetch_weights(struct mover *m, struct device_state *d)
{
    const struct gw_cell_rect old = m->fleet->devices[d->device].holds;
    for (uint16_t g = d->want.g0; g < d->want.g1; g++) {
        struct gw_cell_rect row = {g, (uint16_t)(g + 1), d->want.s0, d->want.s1},
                            has = gw_rect_meet(row, old);
        if (gw_rect_empty(has)) {
            TRY(fetch_shares(m, d, g, row.s0, row.s1));
            continue;
        }
        TRY(fetch_shares(m, d, g, row.s0, has.s0));
        TRY(fetch_shares(m, d, g, has.s1, row.s1));
    }
    return GW_OK;
}

/* KV that comes: as long as there is room beside it for all weights wanted. */
static gw_err_t fetch_kv(struct mover *m, struct device_state *d, const struct gw_move_step *kv, uint32_t n)
{
    struct gw_cell_rect kept = gw_rect_meet(d->old, d->want);
    uint64_t need = gw_plan_weight_bytes(m->model, d->want) + d->kv_cell * gw_rect_cells(kept);
    for (uint32_t i = 0; i < n; i++) {
        if (need + kv[i].bytes > d->room || d->resident + kv[i].bytes > d->room) {
            m->move.recomputed_bytes += kv[i].bytes;
            continue;
        }
        need += kv[i].bytes;
        d->resident += kv[i].bytes;
        m->move.kv_bytes += kv[i].bytes;
        use_link(m, &kv[i]);
        TRY(emit(m, kv[i]));
    }
    return GW_OK;
}

static gw_err_t move_device(struct mover *m, uint32_t device, const struct gw_move_step *kv, uint32_t n)
{
    const struct gw_plan_device *dev = &m->fleet->devices[device];
    const struct gw_plan_instance *in = &m->fleet->instances[dev->instance];
    struct device_state d = {.device = device, .old = dev->holds, .kv_cell = dev->kv_cell_bytes};
    if (m->rank_of[device] != GW_PLAN_NONE) d.want = m->layout->ranks[m->rank_of[device]].cells;
    m->move.kept_bytes += gw_plan_weight_bytes(m->model, gw_rect_meet(d.old, d.want));
    if (in->doomed_at_s > 0 || (gw_rect_equal(d.old, d.want) && n == 0)) return GW_OK;
    d.room = m->fleet->types[dev->type].memory_bytes;
    d.resident = gw_plan_weight_bytes(m->model, d.old) + d.kv_cell * gw_rect_cells(d.old);
    uint64_t before = m->move.weight_bytes;
    if (!gw_rect_empty(d.want)) {
        TRY(fetch_kv(m, &d, kv, n));
        TRY(fetch_weights(m, &d));
    }
    if (d.dropped_early && dev->pipeline != GW_PLAN_NONE)
        m->move.gap_s = larger(m->move.gap_s, (double)(m->move.weight_bytes - before) / in->inter.bytes_s);
    for (bool more = true; more;) TRY(drop_next(m, &d, &more));
    return GW_OK;
}

static gw_err_t move_devices(struct mover *m)
{
    for (uint32_t d = 0, at = 0; d < m->fleet->devices_len; d++) {
        uint32_t first = at;
        while (at < m->kv_len && m->kv[at].device == d) at++;
        TRY(move_device(m, d, m->kv + first, at - first));
    }
    finish_links(m);
    return GW_OK;
}

static gw_err_t plan_move(struct mover *m)
{
    const struct gw_plan_fleet *f = m->fleet;
    m->rank_of = malloc((f->devices_len + 1) * sizeof *m->rank_of);
    m->first_rank = calloc(m->layout->pipelines + 1, sizeof *m->first_rank);
    m->use = calloc(f->instances_len + 1, sizeof *m->use);
    if (!m->rank_of || !m->first_rank || !m->use) return GW_ERR_MEMORY;
    memset(m->rank_of, 0xff, f->devices_len * sizeof *m->rank_of);
    for (uint32_t i = 0; i < m->layout->ranks_len; i++) {
        m->rank_of[m->layout->ranks[i].device] = i;
        m->first_rank[m->layout->ranks[i].pipeline + 1] = i + 1;
    }
    TRY(gw_layout_of_fleet(f, m->model, &m->old));
    TRY(gw_holders_make(f, m->model, &m->holders));
    TRY(plan_kv(m));
    return move_devices(m);
}

gw_err_t gw_move_plan(const struct gw_plan_fleet *fleet, const struct gw_plan_model *model,
                      const struct gw_layout *layout, struct gw_move *out)
{
    struct mover m = {.fleet = fleet, .model = model, .layout = layout};
    gw_err_t err = plan_move(&m);
    if (err == GW_OK)
        *out = m.move;
    else
        gw_move_fini(&m.move);
    gw_layout_fini(&m.old);
    gw_holders_fini(&m.holders);
    free(m.rank_of);
    free(m.first_rank);
    free(m.use);
    free(m.kv);
    return err;
}

void gw_move_fini(struct gw_move *move)
{
    free(move->steps);
    *move = (struct gw_move){0};
}
