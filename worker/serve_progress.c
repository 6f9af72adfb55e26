/* The heartbeat's figures: of the engine that serves, of stores, weights and traffic. */
#include "worker/serve_internal.h"

static void add_checkpoint(const struct gw_host *h, struct gw_msg_heartbeat *progress)
{
    struct gw_stores_stats stores;
    if (!h->checkpoint) return;
    const struct gw_checkpoint_stats c = gw_checkpoint_stats(h->checkpoint);
    gw_stores_stats(h->stores, &stores);
    progress->kv_offered = c.offered;
    progress->kv_stored = c.stored + c.there;
    progress->kv_stored_bytes = c.bytes;
    progress->kv_forged_pages = stores.pages_forged;
}

/* Of this session, so that a controller can add up what sessions say. */
static void add_weights(const struct gw_serve *s, struct gw_msg_heartbeat *progress)
{
    const struct gw_cell_loaded now = gw_cell_loader_stats(s->config.host->loader);
    progress->weight_disk_bytes = now.disk_bytes - s->before.disk_bytes;
    progress->weight_peer_bytes = now.peer_bytes - s->before.peer_bytes;
}

static void add_traffic(const struct gw_serve *s, struct gw_msg_heartbeat *progress)
{
    const struct gw_traffic_bytes *before = &s->traffic_before;
    struct gw_traffic_bytes now;
    gw_traffic_read(s->config.host->traffic, &now);
    for (int k = 0; k < GW_TRAFFIC_KINDS; k++) {
        progress->traffic.near[k] = now.near[k] - before->near[k];
        progress->traffic.far[k] = now.far[k] - before->far[k];
    }
}

void serve_say_progress(struct gw_serve *s, bool stepped)
{
    struct gw_msg_heartbeat progress = {0};
    struct gw_engine *engine = s->serving ? gw_member_engine(s->serving) : NULL;
    if (engine) {
        struct gw_engine_stats stats;
        gw_engine_stats(engine, &stats);
        progress = stats.progress;
    } else if (s->serving) {
        progress.steps = gw_member_steps(s->serving);
    }
    if (s->proto >= 3) add_checkpoint(s->config.host, &progress);
    if (s->proto >= 4) add_weights(s, &progress);
    if (s->proto >= 5) add_traffic(s, &progress);
    gw_link_set_progress(s->link, &progress);
    atomic_store_explicit(&s->config.host->giver->busy, stepped || serve_requests_here(s) > 0,
                          memory_order_relaxed);
}
