#include "controller/cli/cluster_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_MAX (1ll << 53) /* JSON's numbers are exact up to there */

/* ---- fields: what is absent stays zero ---- */

static gw_err_t read_text(const cJSON *obj, const char *field, char *out, size_t size, struct gw_err_ctx *ctx)
{
    const char *text = NULL;
    TRY(gw_json_string(obj, field, &text, ctx));
    snprintf(out, size, "%s", text ? text : "");
    return GW_OK;
}

static gw_err_t read_u64(const cJSON *obj, const char *field, uint64_t *out, struct gw_err_ctx *ctx)
{
    int64_t v = 0;
    TRY(gw_json_int(obj, field, 0, COUNT_MAX, &v, ctx));
    *out = (uint64_t)v;
    return GW_OK;
}

static gw_err_t read_u32(const cJSON *obj, const char *field, uint32_t max, uint32_t *out,
                         struct gw_err_ctx *ctx)
{
    int64_t v = 0;
    TRY(gw_json_int(obj, field, 0, max, &v, ctx));
    *out = (uint32_t)v;
    return GW_OK;
}

/* A list of at most max items. */
static gw_err_t read_list(const cJSON *obj, const char *field, uint32_t max, const cJSON **list,
                          uint32_t *len, struct gw_err_ctx *ctx)
{
    *list = cJSON_GetObjectItemCaseSensitive(obj, field);
    if (!cJSON_IsArray(*list)) return gw_fail(ctx, GW_ERR_INPUT, "'%s' is no list", field);
    *len = (uint32_t)cJSON_GetArraySize(*list);
    if (*len > max) return gw_fail(ctx, GW_ERR_LIMIT, "'%s' has more than %u items", field, max);
    return GW_OK;
}

static gw_err_t no_memory(struct gw_err_ctx *ctx)
{
    return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
}

/* [first, end) within [0, max] */
static gw_err_t read_span(const cJSON *obj, const char *field, uint32_t max, uint16_t *first, uint16_t *end,
                          struct gw_err_ctx *ctx)
{
    const cJSON *span = cJSON_GetObjectItemCaseSensitive(obj, field);
    const cJSON *a = cJSON_GetArrayItem(span, 0), *b = cJSON_GetArrayItem(span, 1);
    if (!cJSON_IsNumber(a) || !cJSON_IsNumber(b) || !(a->valuedouble >= 0) ||
        !(a->valuedouble < b->valuedouble) || !(b->valuedouble <= max))
        return gw_fail(ctx, GW_ERR_INPUT, "'%s' is no part of the model", field);
    *first = (uint16_t)a->valuedouble;
    *end = (uint16_t)b->valuedouble;
    return GW_OK;
}

/* ---- pipelines ---- */

static gw_err_t read_rank(const cJSON *j, const struct cluster_view *v, struct view_rank *r,
                          struct gw_err_ctx *ctx)
{
    TRY(read_text(j, "worker", r->worker, sizeof r->worker, ctx));
    TRY(read_text(j, "instance", r->instance, sizeof r->instance, ctx));
    TRY(read_u32(j, "stage", VIEW_RANKS_MAX, &r->stage, ctx));
    TRY(read_span(j, "groups", v->groups, &r->cells.g0, &r->cells.g1, ctx));
    TRY(read_span(j, "shares", v->shares, &r->cells.s0, &r->cells.s1, ctx));
    TRY(gw_json_bool(j, "ready", &r->ready, ctx));
    return read_u64(j, "weight_bytes", &r->weight_bytes, ctx);
}

static gw_err_t read_pipeline(const cJSON *j, const struct cluster_view *v, struct view_pipeline *p,
                              struct gw_err_ctx *ctx)
{
    const cJSON *ranks = NULL, *r;
    uint32_t len = 0;
    TRY(read_u32(j, "pipeline", UINT32_MAX, &p->pipeline, ctx));
    TRY(read_u64(j, "generation", &p->generation, ctx));
    TRY(read_text(j, "state", p->state, sizeof p->state, ctx));
    TRY(read_u32(j, "requests", UINT32_MAX, &p->requests, ctx));
    TRY(read_u32(j, "kv_tokens", UINT32_MAX, &p->kv_tokens, ctx));
    TRY(read_u32(j, "context", UINT32_MAX, &p->context, ctx));
    TRY(read_list(j, "ranks", VIEW_RANKS_MAX, &ranks, &len, ctx));
    if (!(p->ranks = calloc(len + 1, sizeof *p->ranks))) return no_memory(ctx);
    cJSON_ArrayForEach(r, ranks) TRY(read_rank(r, v, &p->ranks[p->ranks_len++], ctx));
    return GW_OK;
}

static gw_err_t read_pipelines(const cJSON *j, struct cluster_view *v, struct gw_err_ctx *ctx)
{
    const cJSON *list = NULL, *p;
    uint32_t len = 0;
    TRY(read_list(j, "pipelines", VIEW_PIPELINES_MAX, &list, &len, ctx));
    if (!(v->pipelines = calloc(len + 1, sizeof *v->pipelines))) return no_memory(ctx);
    cJSON_ArrayForEach(p, list) TRY(read_pipeline(p, v, &v->pipelines[v->pipelines_len++], ctx));
    return GW_OK;
}

static gw_err_t read_layout(const cJSON *j, struct cluster_view *v, struct gw_err_ctx *ctx)
{
    const cJSON *plan = cJSON_GetObjectItemCaseSensitive(j, "plan");
    const cJSON *load = cJSON_GetObjectItemCaseSensitive(j, "load");
    TRY(read_text(j, "model", v->model, sizeof v->model, ctx));
    TRY(read_text(j, "layout", v->layout, sizeof v->layout, ctx));
    TRY(read_u64(j, "epoch", &v->epoch, ctx));
    TRY(read_u32(j, "groups", GW_PLAN_GROUPS_MAX, &v->groups, ctx));
    TRY(read_u32(j, "shares", GW_PLAN_SHARES_MAX, &v->shares, ctx));
    if (!v->groups || !v->shares) return gw_fail(ctx, GW_ERR_INPUT, "'groups' and 'shares' are missing");
    TRY(read_text(plan, "reason", v->reason, sizeof v->reason, ctx));
    TRY(gw_json_bool(plan, "under_way", &v->planning, ctx));
    TRY(read_u32(plan, "pipelines", UINT32_MAX, &v->plan_pipelines, ctx));
    TRY(gw_json_double(load, "measured_rps", 0, 1e12, &v->requests_s, ctx));
    TRY(gw_json_double(load, "tokens_s", 0, 1e12, &v->tokens_s, ctx));
    return read_pipelines(j, v, ctx);
}

/* ---- workers ---- */

static gw_err_t read_worker(const cJSON *j, struct view_worker *w, struct gw_err_ctx *ctx)
{
    const cJSON *beat = cJSON_GetObjectItemCaseSensitive(j, "heartbeat");
    TRY(read_text(j, "worker", w->worker, sizeof w->worker, ctx));
    TRY(read_text(j, "instance", w->instance, sizeof w->instance, ctx));
    TRY(read_text(j, "state", w->state, sizeof w->state, ctx));
    TRY(gw_json_bool(j, "advised", &w->advised, ctx));
    TRY(read_u32(j, "requests", UINT32_MAX, &w->requests, ctx));
    TRY(gw_json_double(j, "deadline_in_s", -1e9, 1e9, &w->deadline_in_s, ctx));
    TRY(read_u32(beat, "kv_used_tokens", UINT32_MAX, &w->kv_used_tokens, ctx));
    TRY(read_u32(beat, "kv_total_tokens", UINT32_MAX, &w->kv_total_tokens, ctx));
    TRY(read_u64(beat, "steps", &w->steps, ctx));
    return read_u64(beat, "step_us", &w->step_us, ctx);
}

static int by_name(const void *a, const void *b)
{
    const struct view_worker *x = a, *y = b;
    int c = strcmp(x->instance, y->instance);
    return c ? c : strcmp(x->worker, y->worker);
}

static gw_err_t read_workers(const cJSON *j, struct cluster_view *v, struct gw_err_ctx *ctx)
{
    const cJSON *list = NULL, *w;
    uint32_t len = 0;
    TRY(read_list(j, "workers", VIEW_WORKERS_MAX, &list, &len, ctx));
    if (!(v->workers = calloc(len + 1, sizeof *v->workers))) return no_memory(ctx);
    cJSON_ArrayForEach(w, list) TRY(read_worker(w, &v->workers[v->workers_len++], ctx));
    if (v->workers_len) qsort(v->workers, v->workers_len, sizeof *v->workers, by_name);
    return GW_OK;
}

static gw_err_t read_unplaced(const cJSON *j, struct cluster_view *v, struct gw_err_ctx *ctx)
{
    const cJSON *u;
    cJSON_ArrayForEach(u, cJSON_GetObjectItemCaseSensitive(j, "unplaced"))
    {
        char name[VIEW_NAME_MAX + 1];
        TRY(read_text(u, "worker", name, sizeof name, ctx));
        for (uint32_t i = 0; i < v->workers_len; i++)
            if (strcmp(v->workers[i].worker, name) == 0)
                TRY(read_text(u, "why", v->workers[i].why, sizeof v->workers[i].why, ctx));
    }
    return GW_OK;
}

static gw_err_t read_group(const cJSON *j, struct view_group *g, struct gw_err_ctx *ctx)
{
    g->there = cJSON_IsObject(j);
    TRY(read_u32(j, "target", UINT32_MAX, &g->target, ctx));
    TRY(read_u32(j, "desired", UINT32_MAX, &g->desired, ctx));
    TRY(read_u32(j, "running", UINT32_MAX, &g->running, ctx));
    return gw_json_double(j, "usd_h", 0, 1e12, &g->usd_h, ctx);
}

static gw_err_t read_instance(const cJSON *j, bool spot, struct view_instance *in, struct gw_err_ctx *ctx)
{
    in->spot = spot;
    TRY(read_text(j, "instance", in->instance, sizeof in->instance, ctx));
    TRY(read_text(j, "zone", in->zone, sizeof in->zone, ctx));
    TRY(gw_json_bool(j, "pending", &in->pending, ctx));
    return gw_json_double(j, "usd_h", 0, 1e12, &in->usd_h, ctx);
}

/* A controller of an earlier version lists none. */
static gw_err_t read_instances(const cJSON *group, bool spot, struct view_capacity *c, struct gw_err_ctx *ctx)
{
    const cJSON *list = NULL, *in;
    uint32_t len = 0;
    if (!cJSON_GetObjectItemCaseSensitive(group, "instances")) return GW_OK;
    TRY(read_list(group, "instances", VIEW_INSTANCES_MAX - c->instances_len, &list, &len, ctx));
    struct view_instance *larger = realloc(c->instances, (c->instances_len + len + 1) * sizeof *larger);
    if (!larger) return no_memory(ctx);
    c->instances = larger;
    memset(larger + c->instances_len, 0, (len + 1) * sizeof *larger);
    cJSON_ArrayForEach(in, list) TRY(read_instance(in, spot, &larger[c->instances_len++], ctx));
    return GW_OK;
}

static gw_err_t read_capacity(const cJSON *j, struct view_capacity *c, struct gw_err_ctx *ctx)
{
    c->on = cJSON_IsObject(j);
    TRY(gw_json_bool(j, "dry_run", &c->dry_run, ctx));
    TRY(read_u32(j, "wish", UINT32_MAX, &c->wish, ctx));
    TRY(read_text(j, "draining", c->draining, sizeof c->draining, ctx));
    TRY(read_text(j, "trouble", c->trouble, sizeof c->trouble, ctx));
    const cJSON *spot = cJSON_GetObjectItemCaseSensitive(j, "spot");
    const cJSON *on_demand = cJSON_GetObjectItemCaseSensitive(j, "on_demand");
    TRY(read_group(spot, &c->spot, ctx));
    TRY(read_group(on_demand, &c->on_demand, ctx));
    TRY(read_instances(spot, true, c, ctx));
    return read_instances(on_demand, false, c, ctx);
}

static gw_err_t read_stats(const cJSON *j, struct cluster_view *v, struct gw_err_ctx *ctx)
{
    TRY(read_u32(j, "queued", UINT32_MAX, &v->queued, ctx));
    TRY(read_u32(j, "running", UINT32_MAX, &v->running, ctx));
    TRY(read_u64(j, "tokens", &v->tokens, ctx));
    TRY(read_u64(j, "accepted", &v->accepted, ctx));
    TRY(read_u64(j, "failed", &v->failed, ctx));
    TRY(read_u64(j, "losses", &v->losses, ctx));
    TRY(read_capacity(cJSON_GetObjectItemCaseSensitive(j, "capacity"), &v->capacity, ctx));
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(j, "worker_bytes");
    TRY(gw_json_double(bytes, "other_zone_usd_h", 0, 1e12, &v->egress_usd_h, ctx));
    const cJSON *kv = cJSON_GetObjectItemCaseSensitive(j, "kv_tokens");
    TRY(read_u64(kv, "cache", &v->kv_cached, ctx));
    TRY(read_u64(kv, "peer", &v->kv_moved, ctx));
    TRY(read_u64(kv, "store", &v->kv_stored, ctx));
    return read_u64(kv, "recompute", &v->kv_recomputed, ctx);
}

gw_err_t cluster_view_read(const struct cluster_answers *a, struct cluster_view *out, struct gw_err_ctx *ctx)
{
    struct cluster_view v = {0};
    *out = v;
    gw_err_t err = read_layout(a->layout, &v, ctx);
    if (err == GW_OK) err = read_workers(a->workers, &v, ctx);
    if (err == GW_OK) err = read_unplaced(a->layout, &v, ctx);
    if (err == GW_OK) err = read_stats(a->stats, &v, ctx);
    if (err != GW_OK) {
        cluster_view_fini(&v);
        return gw_fail_prefix(ctx, err, "the controller's answer cannot be read");
    }
    *out = v;
    return GW_OK;
}

void cluster_view_fini(struct cluster_view *v)
{
    for (uint32_t i = 0; i < v->pipelines_len; i++) free(v->pipelines[i].ranks);
    free(v->pipelines);
    free(v->workers);
    free(v->capacity.instances);
    *v = (struct cluster_view){0};
}

/* ---- asking ---- */

gw_err_t cluster_ask(struct admin_client *client, struct cluster_answers *out, struct gw_err_ctx *ctx)
{
    *out = (struct cluster_answers){0};
    gw_err_t err = admin_call(client, "/admin/layout", NULL, &out->layout, ctx);
    if (err == GW_OK) err = admin_call(client, "/admin/workers", NULL, &out->workers, ctx);
    if (err == GW_OK) err = admin_call(client, "/admin/stats", NULL, &out->stats, ctx);
    if (err != GW_OK) cluster_answers_fini(out);
    return err;
}

void cluster_answers_fini(struct cluster_answers *answers)
{
    cJSON_Delete(answers->layout);
    cJSON_Delete(answers->workers);
    cJSON_Delete(answers->stats);
    *answers = (struct cluster_answers){0};
}

gw_err_t cluster_look(struct admin_client *client, struct cluster_view *out, struct gw_err_ctx *ctx)
{
    struct cluster_answers answers;
    TRY(cluster_ask(client, &answers, ctx));
    gw_err_t err = cluster_view_read(&answers, out, ctx);
    cluster_answers_fini(&answers);
    return err;
}
