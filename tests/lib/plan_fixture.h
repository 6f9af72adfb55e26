/* Fleets, models and loads for the planner's tests and its bench: small ones by hand, random ones by seed. */
#ifndef GW_TESTS_PLAN_FIXTURE_H
#define GW_TESTS_PLAN_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "migrate/plan.h"

#define GB 1000000000ull

/* A Llama-like model in bf16: 2 bytes per weight. */
static inline struct gw_plan_model plan_model(uint32_t layers, uint32_t group_layers, uint32_t hidden,
                                              uint32_t heads, uint32_t kv_heads, uint32_t shares,
                                              uint32_t intermediate, uint32_t vocab)
{
    uint32_t head_dim = hidden / heads;
    return (struct gw_plan_model){.layers = layers,
                                  .group_layers = group_layers,
                                  .groups = (layers + group_layers - 1) / group_layers,
                                  .shares = shares,
                                  .kv_heads = kv_heads,
                                  .ffn_units = intermediate / 2,
                                  .vocab = vocab,
                                  .hidden = hidden,
                                  .attn_share_bytes = 4ull * hidden * (heads / shares) * head_dim,
                                  .kv_head_bytes = 4ull * hidden * head_dim,
                                  .ffn_unit_bytes = 12ull * hidden,
                                  .norm_layer_bytes = 8ull * hidden,
                                  .vocab_row_bytes = 2ull * hidden,
                                  .kv_token_bytes = 4ull * head_dim,
                                  .weight_bytes = 2,
                                  .attn_flop = 4.0 * head_dim * heads / shares};
}

static inline struct gw_plan_model plan_model_70b(void)
{
    return plan_model(80, 4, 8192, 64, 8, 8, 28672, 128256);
}

static inline struct gw_plan_model plan_model_8b(void)
{
    return plan_model(32, 4, 4096, 32, 8, 8, 14336, 128256);
}

/* Four groups, four shares: small enough to enumerate every layout of a few devices. */
static inline struct gw_plan_model plan_model_small(void)
{
    return plan_model(8, 2, 2048, 16, 4, 4, 8192, 32000);
}

static inline struct gw_plan_load plan_load(double arrival_rps)
{
    return (struct gw_plan_load){.arrival_rps = arrival_rps,
                                 .prompt_mean = 500,
                                 .prompt_p99 = 2000,
                                 .output_mean = 200,
                                 .output_p99 = 600};
}

static const struct gw_plan_type plan_types[] = {
    {"h100", 0, 75 * GB, 3.0e12, 7.0e14, 1, 1, 2.5}, {"a100", 0, 75 * GB, 1.8e12, 2.6e14, 1, 1, 1.4},
    {"l40s", 0, 44 * GB, 0.8e12, 3.2e14, 1, 1, 0.8}, {"a10", 0, 21 * GB, 0.55e12, 1.1e14, 1, 1, 0.4},
    {"l4", 0, 21 * GB, 0.28e12, 1.0e14, 1, 1, 0.25},
};
#define PLAN_TYPES (sizeof plan_types / sizeof *plan_types)

static inline struct gw_plan_link plan_intra(uint32_t type)
{
    return type < 2 ? (struct gw_plan_link){3.0e11, 8e-6} : (struct gw_plan_link){2.5e10, 2e-5};
}

static inline struct gw_plan_link plan_inter(uint32_t type)
{
    return type < 2 ? (struct gw_plan_link){2.5e10, 5e-5} : (struct gw_plan_link){6e9, 5e-5};
}

/* Room for devices and instances is made once; add instances by plan_add. */
struct plan_fleet {
    struct gw_plan_fleet f;
    struct gw_plan_type types[PLAN_TYPES];
    char zones[16][GW_PLAN_NAME_MAX];
    char profiles[2][GW_PLAN_NAME_MAX];
};

static inline struct plan_fleet *plan_fleet_create(uint32_t zones, uint32_t devices_max)
{
    struct plan_fleet *p = calloc(1, sizeof *p);
    memcpy(p->types, plan_types, sizeof plan_types);
    for (uint32_t t = 0; t < PLAN_TYPES; t++) {
        p->types[t].instance_devices = t < 3 ? 4 : 1;
        p->types[t].intra = plan_intra(t);
        p->types[t].inter = plan_inter(t);
    }
    for (uint32_t z = 0; z < zones; z++)
        snprintf(p->zones[z], sizeof p->zones[z], "zone-%c", (char)('a' + z));
    snprintf(p->profiles[0], sizeof p->profiles[0], "cuda-exact-1");
    snprintf(p->profiles[1], sizeof p->profiles[1], "cpu-f32-1");
    p->f = (struct gw_plan_fleet){.types = p->types,
                                  .types_len = PLAN_TYPES,
                                  .instances = calloc(devices_max + 1, sizeof *p->f.instances),
                                  .devices = calloc(devices_max + 1, sizeof *p->f.devices),
                                  .zones = p->zones,
                                  .zones_len = zones,
                                  .profiles = p->profiles,
                                  .profiles_len = 2,
                                  .zone_link = {1.0e9, 0.001},
                                  .zone_usd_gb = 0.01,
                                  .store_bytes_s = 1e9};
    return p;
}

static inline void plan_fleet_destroy(struct plan_fleet *p)
{
    free(p->f.instances);
    free(p->f.devices);
    free(p);
}

static inline uint32_t plan_add(struct plan_fleet *p, uint32_t type, uint32_t devices, uint32_t zone)
{
    uint32_t at = p->f.instances_len++;
    struct gw_plan_instance *in = &p->f.instances[at];
    *in = (struct gw_plan_instance){.zone = zone,
                                    .first_device = p->f.devices_len,
                                    .devices = devices,
                                    .intra = plan_intra(type),
                                    .inter = plan_inter(type),
                                    .price_usd_h = devices * plan_types[type].price_usd_h};
    snprintf(in->id, sizeof in->id, "i-%u", at);
    for (uint32_t d = 0; d < devices; d++)
        p->f.devices[p->f.devices_len++] =
            (struct gw_plan_device){.instance = at, .index = d, .type = type, .pipeline = GW_PLAN_NONE};
    return at;
}

/* Random instances of 1, 2, 4 or 8 devices until there are `devices`. */
static inline void plan_fill(struct plan_fleet *p, struct gw_rng *r, uint32_t devices, uint32_t types,
                             uint32_t widest)
{
    while (p->f.devices_len < devices) {
        uint32_t n = 1u << gw_rng_below(r, 4), left = devices - p->f.devices_len;
        if (n > widest) n = widest;
        plan_add(p, (uint32_t)gw_rng_below(r, types), n < left ? n : left,
                 (uint32_t)gw_rng_below(r, p->f.zones_len));
    }
}

/* The devices of a layout hold what it says, with so much KV per cell. */
static inline void plan_hold(struct plan_fleet *p, const struct gw_layout *l, uint64_t kv_cell_bytes)
{
    for (uint32_t i = 0; i < p->f.devices_len; i++) {
        p->f.devices[i].pipeline = GW_PLAN_NONE;
        p->f.devices[i].holds = (struct gw_cell_rect){0};
        p->f.devices[i].kv_cell_bytes = 0;
    }
    for (uint32_t i = 0; i < l->ranks_len; i++) {
        struct gw_plan_device *d = &p->f.devices[l->ranks[i].device];
        d->pipeline = l->ranks[i].pipeline;
        d->holds = l->ranks[i].cells;
        d->kv_cell_bytes = kv_cell_bytes;
    }
}

#endif
