#include "controller/program.h"

#include <string.h>

/* ---- what the front asks ---- */

/* What the front posts is the load that layouts are planned for. */
static void post_from_front(void *arg, const struct gw_event *event)
{
    const struct program *p = arg;
    if (p->given) {
        gw_giver_post(p->giver, event);
        return;
    }
    gw_layouts_on_event(p->layouts, event);
    gw_hub_post(p->hub, event);
}

static void read_stats(void *arg, struct gw_core_stats *out)
{
    const struct program *p = arg;
    gw_core_stats(gw_hub_core(p->hub), out);
}

static size_t read_workers(void *arg, struct gw_core_worker_view *out, size_t max)
{
    const struct program *p = arg;
    return gw_core_workers(gw_hub_core(p->hub), out, max);
}

static bool read_pipeline(void *arg, size_t index, struct gw_core_pipeline_view *out)
{
    const struct program *p = arg;
    return gw_core_pipeline(gw_hub_core(p->hub), index, out);
}

static uint64_t read_epoch(void *arg)
{
    const struct program *p = arg;
    return gw_core_epoch(gw_hub_core(p->hub));
}

static void read_layout(void *arg, struct gw_layout_view *out)
{
    const struct program *p = arg;
    gw_layouts_view(p->layouts, out);
}

static const char *read_why(void *arg, const char *worker)
{
    const struct program *p = arg;
    return gw_layouts_why(p->layouts, worker);
}

static uint64_t read_turned_away(void *arg)
{
    const struct program *p = arg;
    return p->links ? gw_links_turned_away(p->links) : 0; /* none: a successor has the port */
}

static void read_capacity(void *arg, struct gw_capacity_view *out)
{
    const struct program *p = arg;
    gw_clouds_view(p->clouds, out);
}

static gw_err_t force_layout(void *arg, const char *layout, uint64_t *ticket, struct gw_err_ctx *ctx)
{
    const struct program *p = arg;
    return gw_layouts_force(p->layouts, layout, ticket, ctx);
}

static gw_err_t append_piece(void *arg, uint64_t entry, const void *piece, size_t len,
                             void (*durable)(void *arg, gw_err_t err), void *durable_arg)
{
    const struct program *p = arg;
    if (!p->journal) return GW_ERR_IO; /* it is a successor's */
    return gw_journal_append(p->journal, entry, piece, len, durable, durable_arg);
}

static void end_entry(void *arg, uint64_t entry)
{
    const struct program *p = arg;
    if (p->journal) gw_journal_end(p->journal, entry);
}

static void read_journal(void *arg, struct gw_metrics_journal *out)
{
    const struct program *p = arg;
    struct gw_journal_stats s;
    if (!p->journal) return;
    gw_journal_stats(p->journal, &s);
    *out = (struct gw_metrics_journal){.batches = s.batches,
                                       .bytes = s.bytes,
                                       .failures = s.failures,
                                       .refused = s.refused,
                                       .failing = s.failing};
}

/* Another controller serves: every word more from here would be one too many. */

/* ---- the front ---- */

gw_err_t program_create_front(struct program *p, struct gw_err_ctx *ctx)
{
    struct gw_front_config config;
    gw_front_config_default(&config);
    config.host = p->o.host;
    config.port = (uint16_t)p->o.port;
    config.admin_host = p->o.admin.host;
    config.admin_port = p->o.admin.port;
    if (p->taken) config.socket = gw_taken_socket(p->taken, 0);
    if (p->taken) config.admin_socket = gw_taken_socket(p->taken, 1);
    config.model_name = p->model.name;
    config.vocab = p->model.vocab;
    config.context = p->model.context;
    config.version = GW_VERSION;
    config.api_keys_file = p->o.api_keys;
    config.admin_token_file = p->o.admin_token_file;
    config.max_connections = (uint32_t)p->o.max_connections;
    config.max_body_bytes = (size_t)p->o.max_body_bytes;
    config.egress_usd_gb = p->o.capacity.egress_usd_gb;
    config.sse_ping_us = (int64_t)(p->o.sse_ping_s * 1e6);
    config.resume_grace_us = (int64_t)(p->o.resume_grace_s * 1e6);
    memcpy(config.fingerprint, p->core_config.fingerprint, sizeof config.fingerprint);
    if (p->journal)
        config.journal = (struct gw_front_journal){
            .append = append_piece, .end = end_entry, .stats = read_journal, .arg = p};
    const struct gw_front_port port = {.post = post_from_front,
                                       .stats = read_stats,
                                       .workers = read_workers,
                                       .pipeline = read_pipeline,
                                       .epoch = read_epoch,
                                       .layout = read_layout,
                                       .why = read_why,
                                       .force = force_layout,
                                       .turned_away = read_turned_away,
                                       .capacity = read_capacity,
                                       .arg = p};
    const struct gw_front_text text = {.tokenizer = p->tokenizer, .chat = p->chat};
    return gw_front_create(p->loop, p->pool, &text, &config, &port, &p->log, &p->front, ctx);
}

void program_on_stopped(void *arg)
{
    struct program *p = arg;
    p->stopped = true;
    if (!p->given || !p->taken || gw_taken_is_over(p->taken)) event_base_loopbreak(p->loop);
}
