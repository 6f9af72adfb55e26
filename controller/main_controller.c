/* godwit-controller: wires front, core and worker links to one event loop. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "base/secret.h"
#include "base/thread.h"
#include "controller/layout_model.h"
#include "controller/program.h"
#include "migrate/fingerprint.h"
#include "migrate/profile.h"

#define TEXT_JOBS_MAX 8192 /* requests being templated and tokenized; more than that is refused (429) */
#define LINKS_MAX     1024

/* ---- glue: each part sees only the hub ---- */

static void post_event(void *arg, const struct gw_event *event)
{
    gw_hub_post(arg, event);
}

static void send_to_link(void *arg, uint64_t link, struct gw_msg *msg)
{
    gw_links_send(arg, link, msg);
}

static void close_link(void *arg, uint64_t link, const char *reason)
{
    gw_links_close(arg, link, reason);
}

static void tell_front(void *arg, const struct gw_action *action)
{
    const struct program *p = arg;
    gw_layouts_on_action(p->layouts, action);
    gw_clouds_on_action(p->clouds, action);
    if (!p->taken || !gw_taken_on_action(p->taken, action)) gw_front_on_action(p->front, action);
}

static void tell_taken(void *arg, uint64_t ticket, uint64_t epoch)
{
    const struct program *p = arg;
    gw_front_on_layout(p->front, ticket, epoch);
}

static void post_plan(void *arg, const struct gw_event *event)
{
    const struct program *p = arg;
    gw_hub_post(p->hub, event);
}

/* ---- start ---- */

static gw_err_t open_model(struct program *p, struct gw_err_ctx *ctx)
{
    TRY(gw_model_info_read(p->o.model, p->o.model_name, &p->model, ctx));
    TRY(gw_plan_model_read(p->o.model, p->o.weight_format, p->o.kv_format, &p->grid, ctx));
    p->core_config.groups = p->grid.groups;
    p->core_config.shares = p->grid.shares;
    TRY(gw_tokenizer_open(p->o.model, &p->tokenizer, ctx));
    gw_err_t err = gw_chat_template_open(p->o.model, &p->chat, ctx);
    if (err == GW_ERR_NOT_FOUND) {
        gw_logf(&p->log, GW_LOG_WARN, "%s has no chat template: /v1/chat/completions will answer 400",
                p->model.name);
        gw_err_reset(ctx);
        err = GW_OK;
    }
    TRY(err);
    return gw_fingerprint_model(p->o.model, p->o.weight_format, p->o.kv_format, p->core_config.fingerprint,
                                ctx);
}

static void configure_core(struct program *p)
{
    struct gw_core_config *c = &p->core_config;
    gw_core_config_default(c);
    /* Grows with every start, even when the local clock's second is reused: a restart takes longer than that.
     */
    c->term = (uint64_t)gw_clock_unix_s();
    c->digest_ok = gw_profile_digest_ok;
    c->heartbeat_us = p->o.heartbeat_ms * GW_US_PER_MS;
    c->heartbeat_timeout_us = p->o.heartbeat_timeout_ms * GW_US_PER_MS;
    c->max_queue_wait_us = (int64_t)(p->o.max_queue_wait_s * 1e6);
    c->warm_timeout_us = (int64_t)(p->o.warm_timeout_s * 1e6);
    c->max_queued = (uint32_t)p->o.max_queue;
    c->max_workers = LINKS_MAX;
}

static gw_err_t read_key(struct program *p, struct gw_err_ctx *ctx)
{
    TRY(gw_secret_read(p->o.cluster_key_file, &p->key, &p->key_len, ctx));
    const struct gw_tls_config tls = {.key = p->key, .key_len = p->key_len};
    return p->o.insecure_plaintext ? GW_OK : gw_tls_create(&tls, &p->tls, ctx);
}

static gw_err_t create_links(struct program *p, struct gw_err_ctx *ctx)
{
    const struct gw_links_config config = {.host = p->o.worker.host,
                                           .port = p->o.worker.port,
                                           .socket = p->taken ? gw_taken_socket(p->taken, 2) : 0,
                                           .key = p->key,
                                           .key_len = p->key_len,
                                           .tls = p->tls,
                                           .max_links = LINKS_MAX,
                                           .log = &p->log,
                                           .event = post_event,
                                           .arg = p->hub};
    return gw_links_create(p->loop, &config, &p->links, ctx);
}

static gw_err_t create_layouts(struct program *p, struct gw_err_ctx *ctx)
{
    const struct gw_layouts_config config = {.layout = p->o.layout,
                                             .model = p->grid,
                                             .context = p->model.context,
                                             .slo_ttft_s = p->o.slo_ttft_s,
                                             .slo_tpot_s = p->o.slo_tpot_s,
                                             .zone_usd_gb = p->o.capacity.egress_usd_gb,
                                             .core = gw_hub_core(p->hub),
                                             .log = &p->log,
                                             .clock = gw_clock_mono(),
                                             .post = post_plan,
                                             .taken = tell_taken,
                                             .arg = p};
    gw_err_t err = gw_layouts_create(p->loop, &config, &p->layouts, ctx);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "--layout");
}

static gw_err_t create_clouds(struct program *p, struct gw_err_ctx *ctx)
{
    const struct gw_clouds_config config = {.loop = p->loop,
                                            .options = &p->o.capacity,
                                            .core = gw_hub_core(p->hub),
                                            .layouts = p->layouts,
                                            .journal = p->journal,
                                            .term = p->core_config.term,
                                            .log = &p->log,
                                            .clock = gw_clock_mono(),
                                            .post = post_event,
                                            .arg = p->hub};
    return gw_clouds_create(&config, &p->clouds, ctx);
}

static gw_err_t write_ready_file(const struct program *p, struct gw_err_ctx *ctx)
{
    char text[128];
    if (!p->o.ready_file) return GW_OK;
    int len = snprintf(text, sizeof text, "{\"port\": %u, \"admin_port\": %u, \"worker_port\": %u}\n",
                       gw_front_http_port(p->front), gw_front_admin_port(p->front), gw_links_port(p->links));
    return gw_file_replace(p->o.ready_file, text, (size_t)len, 0644, ctx);
}

/* The first signal lets requests finish; the second does not wait. */
static void on_end_signal(evutil_socket_t sig, short what, void *arg)
{
    (void)what;
    struct program *p = arg;
    gw_logf(&p->log, GW_LOG_INFO, "signal %d: ending%s", (int)sig, p->stopping ? " at once" : "");
    if (p->stopping || !p->front)
        event_base_loopbreak(p->loop);
    else
        gw_front_stop(p->front, (int64_t)(p->o.stop_grace_s * 1e6), program_on_stopped, p);
    p->stopping = true;
}

static gw_err_t create_loop(struct program *p, struct gw_err_ctx *ctx)
{
    p->loop = event_base_new();
    if (!p->loop || event_base_priority_init(p->loop, GW_HUB_PRIORITIES) != 0)
        return gw_fail(ctx, GW_ERR_MEMORY, "cannot make an event loop");
    p->sigint = evsignal_new(p->loop, SIGINT, on_end_signal, p);
    p->sigterm = evsignal_new(p->loop, SIGTERM, on_end_signal, p);
    if (!p->sigint || !p->sigterm || event_add(p->sigint, NULL) != 0 || event_add(p->sigterm, NULL) != 0)
        return gw_fail(ctx, GW_ERR_MEMORY, "cannot listen for signals");
    return gw_pool_create(p->loop, (int)p->o.text_threads, TEXT_JOBS_MAX, &p->pool, ctx);
}

/* ---- all of it ---- */

static gw_err_t start(struct program *p, struct gw_err_ctx *ctx)
{
    configure_core(p);
    TRY(open_model(p, ctx));
    TRY(read_key(p, ctx));
    TRY(create_loop(p, ctx));
    if (p->o.handover) TRY(gw_handover_take(p->o.handover, &p->taken, ctx)); /* when we are ready to serve */
    if (strcmp(p->o.journal, "none") != 0) TRY(program_open_journal(p, ctx));
    if (p->journal) p->core_config.term = gw_journal_term(p->journal);
    TRY(gw_hub_create(p->loop, &p->core_config, &p->log, &p->hub, ctx));
    TRY(create_layouts(p, ctx));
    TRY(create_links(p, ctx));
    TRY(program_create_front(p, ctx));
    const struct gw_hub_sinks sinks = {
        .send = send_to_link, .close = close_link, .links = p->links, .front = tell_front, .front_arg = p};
    gw_hub_set_sinks(p->hub, &sinks);
    TRY(create_clouds(p, ctx));
    TRY(program_restore(p, ctx));
    TRY(program_begin_taken(p, ctx));
    TRY(program_listen_for_successor(p, ctx));
    return write_ready_file(p, ctx);
}

static void stop(struct program *p)
{
    gw_pool_destroy(p->pool); /* first: its jobs end in the front */
    gw_clouds_stop(p->clouds);
    gw_journal_close(p->journal); /* the same of its writes */
    gw_clouds_destroy(p->clouds);
    gw_giver_destroy(p->giver);
    gw_taken_destroy(p->taken);
    gw_layouts_destroy(p->layouts);
    gw_front_destroy(p->front);
    gw_links_destroy(p->links);
    gw_hub_destroy(p->hub);
    if (p->sigint) event_free(p->sigint);
    if (p->sigterm) event_free(p->sigterm);
    /* A connection that was freed while a callback of it was due is freed by that callback. */
    if (p->loop) event_base_loop(p->loop, EVLOOP_NONBLOCK);
    if (p->loop) event_base_free(p->loop);
    gw_tls_destroy(p->tls);
    gw_secret_free(p->key, p->key_len);
    gw_chat_template_destroy(p->chat);
    gw_tokenizer_close(p->tokenizer);
}

int main(int argc, char **argv)
{
    struct program p = {0};
    struct gw_err_ctx ctx = {0};
    bool help = false;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("godwit-controller %s\n", GW_VERSION);
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    gw_thread_be_quick();
    gw_failpoint_name("controller");
    gw_err_t err = gw_controller_options_parse(argc, argv, &p.o, &help, &ctx);
    if (err == GW_OK && help) return 0;
    if (err == GW_OK) {
        p.log = (struct gw_log){.fd = STDERR_FILENO,
                                .level = (enum gw_log_level)gw_log_level_parse(p.o.log_level),
                                .program = "controller"};
        err = start(&p, &ctx);
    }
    if (err == GW_OK) {
        gw_logf(&p.log, GW_LOG_INFO, "%s is served at %s port %u, admin port %u, worker port %u, term %llu",
                p.model.name, p.o.host, gw_front_http_port(p.front), gw_front_admin_port(p.front),
                gw_links_port(p.links), (unsigned long long)p.core_config.term);
        event_base_dispatch(p.loop);
    }
    stop(&p);
    if (err != GW_OK) fprintf(stderr, "godwit-controller: %s\n", ctx.text);
    return err == GW_OK ? p.status : 1;
}
