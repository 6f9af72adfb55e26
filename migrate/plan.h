/* Plan data: the fleet, the model's grid of cells, the load, and the layout that a planner makes of them.
 *
 *     fleet    instances (what the cloud takes away) hold devices; a device has a type and, now, some cells
 *     model    groups × shares cells, with the bytes and FLOPs of each
 *     load     what arrives, and what was promised
 *     layout   ranks: which device holds which rectangle of cells in which pipeline
 *
 * A rectangle is groups [g0, g1) × shares [s0, s1). Ranks of one pipeline with the same groups are a stage. Within
 * a layout ranks are sorted by pipeline, stage, first share; a device is in one rank at most. Epoch and generations
 * are the core's, not the plan's.
 *
 * Owner: plain data; the arrays of a fleet belong to who made it, those of a layout to it (gw_layout_fini).
 * Thread: any. Units: bytes, seconds, tokens, FLOP; prices in USD per hour, or per 10^9 bytes.
 * Errors: GW_ERR_INPUT with a text that names the rank or device. Source: DESIGN parts 2 and 7. */
#ifndef GW_MIGRATE_PLAN_H
#define GW_MIGRATE_PLAN_H

#include <stdint.h>

#include "base/err.h"
#include "migrate/grid.h"

#define GW_PLAN_DEVICES_MAX 65536
#define GW_PLAN_TYPES_MAX   64
#define GW_PLAN_ZONES_MAX   256
#define GW_PLAN_NAME_MAX    64  /* bytes of an id or name, NUL included */
#define GW_PLAN_GROUPS_MAX  256 /* 1024 layers in groups of four */
#define GW_PLAN_SHARES_MAX  128
#define GW_PLAN_APART_MAX   64 /* pairs; a fleet with more of them has another problem */
#define GW_PLAN_NONE        UINT32_MAX

struct gw_plan_link {
    double bytes_s, latency_s;
};

struct gw_plan_type {
    char name[GW_PLAN_NAME_MAX];
    uint32_t profile;       /* index into the fleet's profiles */
    uint64_t memory_bytes;  /* what weights and KV may use; activations are taken off already */
    double bytes_s, flop_s; /* memory bandwidth, FLOP rate of the profile */
    double decode_factor,
        prefill_factor; /* measured step time / predicted (controller/plan/cost.h); 1 = as predicted */
    double price_usd_h; /* of one new device of the type */
    /* Of an instance of new ones, as the cloud sells them: */
    uint32_t instance_devices;        /* 0 counts as 1 */
    struct gw_plan_link intra, inter; /* see gw_plan_instance */
};

struct gw_plan_instance {
    char id[GW_PLAN_NAME_MAX];
    uint32_t zone;                  /* index into the fleet's zones */
    uint32_t first_device, devices; /* devices of an instance lie together */
    struct gw_plan_link intra;      /* between two of its devices */
    struct gw_plan_link inter;      /* to other instances of its zone; shared by its devices */
    double price_usd_h;             /* of the whole instance */
    double doomed_at_s; /* the cloud takes it then; 0 = not announced. Nothing is placed on a doomed one */
    bool on_demand;
};

struct gw_plan_device {
    uint32_t instance, index; /* index within the instance */
    uint32_t type;
    struct gw_cell_rect holds; /* cells it has now */
    uint32_t pipeline;         /* that it serves in now; GW_PLAN_NONE = in none */
    uint64_t kv_cell_bytes;    /* KV it has now per cell held */
};

/* Two devices, in no order. */
struct gw_plan_pair {
    uint32_t a, b;
};

struct gw_plan_fleet {
    struct gw_plan_type *types;
    struct gw_plan_instance *instances;
    struct gw_plan_device *devices;
    uint32_t types_len, instances_len, devices_len;
    char (*zones)[GW_PLAN_NAME_MAX];
    char (*profiles)[GW_PLAN_NAME_MAX];
    uint32_t zones_len, profiles_len;
    struct gw_plan_link zone_link; /* between zones, per pair of instances */
    double zone_usd_gb;            /* per 10^9 bytes between zones */
    double store_bytes_s;          /* an instance reads weights that no peer has at this rate */
    struct gw_plan_pair *apart;    /* never in one pipeline: they do not reach each other */
    uint32_t apart_len;
};

/* Layers of one FFN in a model whose other layers have experts: what differs there. All 0: there are none. */
struct gw_plan_dense {
    uint32_t ffn_units;
    uint64_t attn_share_bytes, ffn_unit_bytes, norm_layer_bytes;
    uint16_t before[GW_PLAN_GROUPS_MAX + 1]; /* of them in the groups before each; [groups]: in all */
};

struct gw_plan_model {
    uint32_t layers, group_layers, groups; /* the last group may be shorter */
    uint32_t shares;                       /* S; cuts at floor(i * units / S) */
    uint32_t kv_heads, ffn_units, vocab, hidden;
    uint64_t attn_share_bytes; /* query and output projections of one share of one layer */
    uint64_t kv_head_bytes;    /* key and value projections of one KV head of one layer */
    uint64_t ffn_unit_bytes;   /* gate, up and down of one FFN unit of one layer; of all its experts */
    double ffn_used;           /* part of those that a token uses: experts taken / experts; 0 counts as 1 */
    uint64_t norm_layer_bytes; /* every rank of the layer has them */
    uint64_t vocab_row_bytes;  /* one row of the embedding, or of the head */
    bool tied;                 /* one table is embedding and head */
    uint64_t kv_token_bytes;   /* KV of one token, one KV head, one layer */
    double weight_bytes;       /* per weight: FLOP per token = 2 * bytes / weight_bytes */
    double attn_flop;          /* per token, share, layer and token of context */
    struct gw_plan_dense dense;
};

struct gw_plan_load {
    double arrival_rps;
    double prompt_mean, prompt_p99, output_mean, output_p99; /* tokens */
    double slo_ttft_s, slo_tpot_s;                           /* P99; 0 = nothing promised */
    double concurrency_max;                                  /* requests per pipeline; 0 = as memory allows */
    uint64_t profiles; /* bit p: requests of profile p are there, which no other one can serve (0 … 63) */
};

struct gw_layout_rank {
    uint32_t device, pipeline;
    uint16_t stage;
    struct gw_cell_rect cells;
};

struct gw_layout {
    struct gw_layout_rank *ranks;
    uint32_t ranks_len, pipelines;
};

/* Steps that take the fleet from what it holds to a layout: per device in order, devices on their own. A device's drops
 * wait until others have fetched the KV of what is dropped. */
enum gw_move_kind {
    GW_MOVE_KV,      /* fetch KV of cells from the rank that has it */
    GW_MOVE_WEIGHTS, /* fetch weights of cells of one layer group */
    GW_MOVE_EVICT,   /* forget bytes of KV: their requests recompute it */
    GW_MOVE_DROP,    /* forget cells, with their KV */
};

struct gw_move_step {
    enum gw_move_kind kind;
    uint32_t device; /* that fetches or forgets */
    uint32_t source; /* device; GW_PLAN_NONE: the model's files */
    struct gw_cell_rect cells;
    uint64_t bytes;
};

struct gw_move {
    struct gw_move_step *steps; /* by device */
    uint32_t steps_len;
    uint64_t kept_bytes, kv_bytes, weight_bytes; /* weights that stay; fetched */
    uint64_t store_bytes, zone_bytes;            /* of what is fetched: from files; between zones */
    uint64_t recomputed_bytes;                   /* KV that found no room, or no rank to go to */
    double seconds;                              /* until the slowest link is done */
    double gap_s;     /* > 0: some device must drop before it fetches, and serves nothing so long */
    double usd;       /* bytes between zones */
    double late_s;    /* by which a doomed instance's last byte misses its deadline */
    uint32_t touched; /* pipelines served now whose ranks change */
};

static inline bool gw_rect_empty(struct gw_cell_rect r)
{
    return r.g0 >= r.g1 || r.s0 >= r.s1;
}

static inline bool gw_rect_equal(struct gw_cell_rect a, struct gw_cell_rect b)
{
    return a.g0 == b.g0 && a.g1 == b.g1 && a.s0 == b.s0 && a.s1 == b.s1;
}

static inline uint64_t gw_rect_cells(struct gw_cell_rect r)
{
    return gw_rect_empty(r) ? 0 : (uint64_t)(r.g1 - r.g0) * (uint64_t)(r.s1 - r.s0);
}

struct gw_cell_rect gw_rect_meet(struct gw_cell_rect a, struct gw_cell_rect b);

/* Layers of groups [g0, g1). */
uint32_t gw_plan_layers(const struct gw_plan_model *model, uint32_t g0, uint32_t g1);

/* Weights of a rectangle: its cells, norms, and the vocabulary rows of the first and the last group. */
uint64_t gw_plan_weight_bytes(const struct gw_plan_model *model, struct gw_cell_rect r);

/* The vocabulary rows among them: embedding at group 0, head at the last one. */
uint64_t gw_plan_table_bytes(const struct gw_plan_model *model, struct gw_cell_rect r);

/* What of a rectangle's weights a token does not use: the experts that it did not choose. */
double gw_plan_idle_bytes(const struct gw_plan_model *model, struct gw_cell_rect r);

/* Do all shares have equal parts of every dimension? Then bytes depend on a rectangle's width, not on where it is. */
bool gw_plan_even(const struct gw_plan_model *model);

/* KV of one token over the layers and KV heads of r (a head that several shares use counts once). */
uint64_t gw_plan_kv_token_bytes(const struct gw_plan_model *model, struct gw_cell_rect r);

/* Is every number within its bounds, and every index within its table? Whoever reads a fleet or a model from outside
 * asks before planning with it. */
gw_err_t gw_plan_fleet_check(const struct gw_plan_fleet *fleet, const struct gw_plan_model *model,
                             struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t gw_plan_model_check(const struct gw_plan_model *model, struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t gw_plan_load_check(const struct gw_plan_load *load, struct gw_err_ctx *ctx) GW_MUST_USE;

/* The rules of a layout: sorted; no device twice; none doomed; every cell exactly once per pipeline; one profile per
 * pipeline; none with two devices that must be apart; a stage within one zone; weights within each device's memory. */
gw_err_t gw_layout_check(const struct gw_layout *layout, const struct gw_plan_fleet *fleet,
                         const struct gw_plan_model *model, struct gw_err_ctx *ctx) GW_MUST_USE;

/* What the fleet serves now: the pipelines whose devices hold every cell once (of others nothing). Pipelines are
 * numbered anew, in the order of their numbers. The caller calls gw_layout_fini. */
gw_err_t gw_layout_of_fleet(const struct gw_plan_fleet *fleet, const struct gw_plan_model *model,
                            struct gw_layout *out) GW_MUST_USE;

/* Sorts ranks by pipeline, stage, first share. */
void gw_layout_sort(struct gw_layout *layout);
void gw_layout_fini(struct gw_layout *layout);

#endif
