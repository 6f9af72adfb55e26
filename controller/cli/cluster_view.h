/* The cluster as its controller shows it: /admin/layout, /admin/workers and /admin/stats, as plain data for pictures.
 *
 * Numbers are bounded and names are cut to what the wire allows; cells are within the model's grid. What a later
 * controller adds is ignored.
 *
 * Owner: cluster_view_fini frees. Thread: main. Units: as named. Errors: GW_ERR_INPUT, GW_ERR_LIMIT, GW_ERR_MEMORY and those of
 * admin_client.h; *out is then empty. Source: own design. */
#ifndef GW_CONTROLLER_CLI_CLUSTER_VIEW_H
#define GW_CONTROLLER_CLI_CLUSTER_VIEW_H

#include "controller/cli/admin_client.h"
#include "migrate/plan.h"

#define VIEW_NAME_MAX      64
#define VIEW_TEXT_MAX      300
#define VIEW_PIPELINES_MAX 4096
#define VIEW_RANKS_MAX     64
#define VIEW_WORKERS_MAX   1024
#define VIEW_INSTANCES_MAX 1024 /* of both groups */

struct view_rank {
    char worker[VIEW_NAME_MAX + 1], instance[VIEW_NAME_MAX + 1];
    uint32_t stage;
    struct gw_cell_rect cells;
    bool ready;
    uint64_t weight_bytes;
};

struct view_pipeline {
    uint32_t pipeline;
    uint64_t generation;
    char state[16]; /* "forming", "ready", "serving", "draining" */
    uint32_t requests, kv_tokens, context;
    uint32_t ranks_len;
    struct view_rank *ranks;
};

struct view_worker {
    char worker[VIEW_NAME_MAX + 1], instance[VIEW_NAME_MAX + 1];
    char state[16];          /* "up", "doomed" */
    bool advised;            /* its cloud recommends to leave its instance */
    char why[VIEW_TEXT_MAX]; /* it is in no pipeline; else "" */
    double deadline_in_s;    /* of the notice, if it is doomed */
    uint32_t requests;
    uint32_t kv_used_tokens, kv_total_tokens;
    uint64_t step_us, steps;
};

/* A group of the cloud whose size is the controller's. */
struct view_group {
    bool there;
    uint32_t target, desired, running;
    double usd_h;
};

/* One of their instances. */
struct view_instance {
    char instance[VIEW_NAME_MAX + 1], zone[VIEW_NAME_MAX + 1];
    bool spot, pending;
    double usd_h; /* 0: no price is known */
};

struct view_capacity {
    bool on, dry_run;
    uint32_t wish;
    struct view_group spot, on_demand;
    char draining[VIEW_TEXT_MAX], trouble[VIEW_TEXT_MAX];
    struct view_instance *instances;
    uint32_t instances_len;
};

struct cluster_view {
    char model[VIEW_TEXT_MAX], layout[VIEW_TEXT_MAX], reason[VIEW_TEXT_MAX];
    uint64_t epoch;
    uint32_t groups, shares;
    bool planning;
    uint32_t plan_pipelines;
    double requests_s, tokens_s; /* over the last minutes, the last seconds */
    uint32_t queued, running;
    uint64_t tokens, accepted, failed, losses; /* since the controller's start */
    /* Tokens of KV that moved requests began with, since then, by where it came from; zeros from an older controller */
    uint64_t kv_cached, kv_moved, kv_stored, kv_recomputed;
    double egress_usd_h; /* of bytes between zones, by the last minute */
    struct view_capacity capacity;
    struct view_pipeline *pipelines;
    struct view_worker *workers;
    uint32_t pipelines_len, workers_len;
};

/* The three answers. */
struct cluster_answers {
    cJSON *layout, *workers, *stats;
};

gw_err_t cluster_ask(struct admin_client *client, struct cluster_answers *out,
                     struct gw_err_ctx *ctx) GW_MUST_USE;
void cluster_answers_fini(struct cluster_answers *answers);

gw_err_t cluster_view_read(const struct cluster_answers *answers, struct cluster_view *out,
                           struct gw_err_ctx *ctx) GW_MUST_USE;
void cluster_view_fini(struct cluster_view *view);

/* Both at once. */
gw_err_t cluster_look(struct admin_client *client, struct cluster_view *out,
                      struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
