/* godwit-controller: wires front, core and worker links to one event loop. */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "base/pool.h"
#include "base/secret.h"
#include "controller/clouds.h"
#include "controller/front/front.h"
#include "controller/handover_give.h"
#include "controller/handover_take.h"
#include "controller/hub.h"
#include "controller/journal_file.h"
#include "controller/journal_redis.h"
#include "controller/layout.h"
#include "controller/layout_model.h"
#include "controller/model_info.h"
#include "controller/options.h"
#include "controller/worker_links.h"
#include "migrate/fingerprint.h"
#include "migrate/profile.h"

#define TEXT_JOBS_MAX 8192 /* requests being templated and tokenized; more than that is refused (429) */
#define LINKS_MAX     1024
/* A successor computes what our clients wait for; who waits longer has a request that never ends. */
#define GIVEN_GRACE_US (3600 * GW_US_PER_S)
#define STANDBY_US     (GW_US_PER_S / 5) /* between two looks at whether the journal is free */

struct program {
    struct gw_controller_options o;
    struct gw_log log;
    struct gw_model_info model;
    struct gw_plan_model grid; /* its cells */
    struct gw_core_config core_config;
    struct gw_tokenizer *tokenizer;
    struct gw_chat_template *chat; /* NULL: the model has none */
    struct event_base *loop;
    struct gw_pool *pool;
    struct gw_hub *hub;
    struct gw_links *links;
    char *key; /* the cluster key */
    size_t key_len;
    struct gw_tls *tls; /* NULL: --insecure-plaintext */
    struct gw_layouts *layouts;
    struct gw_front *front;
    struct gw_journal *journal; /* NULL: none */
    struct gw_clouds *clouds;   /* NULL: no cloud is asked */
    struct gw_taken *taken;     /* what a predecessor gave us, NULL: there was none */
    struct gw_giver *giver;     /* for a successor */
    bool given;                 /* it has everything but our clients' connections … */
    bool stopped;               /* … which have all ended */
    struct event *sigint, *sigterm;
    bool stopping;
    int status;
};

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
static void on_journal_lost(void *arg, const char *why)
{
    struct program *p = arg;
    gw_logf(&p->log, GW_LOG_ERROR, "ending: the journal is another controller's: %s", why);
    p->status = 1;
    event_base_loopbreak(p->loop);
}

/* ---- start ---- */

static gw_err_t open_model(struct program *p, struct gw_err_ctx *ctx)
{
    TRY(gw_model_info_read(p->o.model, p->o.model_name, &p->model, ctx));
    TRY(gw_plan_model_read(p->o.model, p->o.weight_format, &p->grid, ctx));
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
    return gw_fingerprint_model(p->o.model, p->o.weight_format, p->core_config.fingerprint, ctx);
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
                                             .core = gw_hub_core(p->hub),
                                             .log = &p->log,
                                             .clock = gw_clock_mono(),
                                             .post = post_plan,
                                             .taken = tell_taken,
                                             .arg = p};
    gw_err_t err = gw_layouts_create(p->loop, &config, &p->layouts, ctx);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "--layout");
}

static gw_err_t create_front(struct program *p, struct gw_err_ctx *ctx)
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

/* Our clients have their answers; those of our predecessor get theirs through us. */
static void on_stopped(void *arg)
{
    struct program *p = arg;
    p->stopped = true;
    if (!p->given || !p->taken || gw_taken_is_over(p->taken)) event_base_loopbreak(p->loop);
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
        gw_front_stop(p->front, (int64_t)(p->o.stop_grace_s * 1e6), on_stopped, p);
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

/* The same after a restart, so that the process before need not be waited for. */
static void name_owner(const struct program *p, char *out, size_t size)
{
    char host[64] = "?";
    gethostname(host, sizeof host - 1);
    if (p->o.port != 0)
        snprintf(out, size, "%s:%lld", host, (long long)p->o.port);
    else
        snprintf(out, size, "%s:%d", host, (int)getpid());
}

static gw_err_t try_journal(struct program *p, struct gw_err_ctx *ctx)
{
    char owner[96];
    name_owner(p, owner, sizeof owner);
    const struct gw_journal_config config = {.where = p->o.journal,
                                             .key = p->key,
                                             .key_len = p->key_len,
                                             .term_min = (uint64_t)gw_clock_unix_s(),
                                             .password_file = p->o.journal_password_file,
                                             .owner = owner,
                                             .lease_us = (int64_t)(p->o.lease_s * 1e6),
                                             .insecure_plaintext = p->o.insecure_plaintext,
                                             .redis_ca_file = p->o.redis_ca_file,
                                             .redis_tls_name = p->o.redis_tls_name,
                                             .log = &p->log,
                                             .lost = on_journal_lost,
                                             .arg = p};
    bool redis = strncmp(p->o.journal, "redis", 5) == 0 && strstr(p->o.journal, "://");
    return gw_journal_open(p->loop, redis ? &gw_journal_redis : &gw_journal_file, &config, &p->journal, ctx);
}

/* A standby looks again and again; a signal ends it. */
static gw_err_t wait_for_journal(struct program *p, struct gw_err_ctx *ctx)
{
    const struct timeval wait = {.tv_usec = STANDBY_US};
    bool said = false;
    for (;;) {
        gw_err_t err = try_journal(p, ctx);
        bool later = err == GW_ERR_LIMIT || err == GW_ERR_IO;
        if (!later || (err == GW_ERR_IO && !p->o.standby)) return err;
        if (!p->o.standby) return gw_fail_prefix(ctx, err, "(--standby waits)");
        if (!said) gw_logf(&p->log, GW_LOG_INFO, "standing by: %s", ctx->text);
        said = true;
        gw_err_reset(ctx);
        event_base_loopexit(p->loop, &wait);
        event_base_dispatch(p->loop);
        if (p->stopping) return gw_fail(ctx, GW_ERR_IO, "told to end while standing by");
    }
}

static gw_err_t restore_entry(void *arg, uint64_t entry, const void *pieces, size_t len)
{
    const struct program *p = arg;
    if (gw_clouds_restore(p->clouds, p->journal, entry, pieces, len)) return GW_OK;
    return gw_front_restore(p->front, entry, pieces, len);
}

static gw_err_t restore(struct program *p, struct gw_err_ctx *ctx)
{
    if (!p->journal) return GW_OK;
    gw_failpoint("journal", "opened");
    gw_err_t err = gw_journal_replay(p->journal, restore_entry, p);
    gw_failpoint("streams", "restored");
    return err == GW_OK ? GW_OK : gw_fail(ctx, err, "the journal's streams do not fit into memory");
}

/* ---- hand-over ---- */

static void on_asked_to_give(void *arg, int fds[GW_HANDOVER_FDS])
{
    const struct program *p = arg;
    fds[0] = gw_front_socket(p->front);
    fds[1] = gw_front_admin_socket(p->front);
    fds[2] = gw_links_socket(p->links);
}

static void give_request(void *arg, const struct gw_request *request, const struct gw_core_restored *branches,
                         const char *profile)
{
    gw_giver_put_request(arg, request, branches, profile);
}

/* The successor opens the journal as soon as it hears GO, and workers dial it as soon as our links are gone. */
static void on_given(void *arg)
{
    struct program *p = arg;
    gw_front_release(p->front, GIVEN_GRACE_US, on_stopped, p);
    gw_clouds_stop(p->clouds);
    gw_journal_close(p->journal);
    p->journal = NULL;
    gw_failpoint("place", "half given");
    gw_core_each_request(gw_hub_core(p->hub), give_request, p->giver);
    p->given = true;
    p->stopping = true; /* a signal ends us at once */
    gw_hub_stop(p->hub);
    gw_links_destroy(p->links);
    p->links = NULL;
}

static void on_given_action(void *arg, const struct gw_action *action)
{
    const struct program *p = arg;
    if (!p->taken || !gw_taken_on_action(p->taken, action)) gw_front_on_action(p->front, action);
}

static void post_from_predecessor(void *arg, const struct gw_event *event)
{
    const struct program *p = arg;
    if (p->given)
        gw_giver_post(p->giver, event);
    else
        gw_hub_post(p->hub, event);
}

static void on_predecessor_ended(void *arg)
{
    const struct program *p = arg;
    if (p->given && p->stopped) event_base_loopbreak(p->loop);
}

static gw_err_t begin_taken(struct program *p, struct gw_err_ctx *ctx)
{
    const struct gw_taken_config config = {
        .log = &p->log, .post = post_from_predecessor, .ended = on_predecessor_ended, .arg = p};
    return p->taken ? gw_taken_begin(p->taken, p->loop, &config, ctx) : GW_OK;
}

static void on_successor_gone(void *arg)
{
    struct program *p = arg;
    gw_logf(&p->log, GW_LOG_ERROR, "ending: the successor is gone, and the requests with it");
    p->status = 1;
    event_base_loopbreak(p->loop);
}

static gw_err_t listen_for_successor(struct program *p, struct gw_err_ctx *ctx)
{
    const struct gw_giver_config config = {.path = p->o.handover,
                                           .log = &p->log,
                                           .give = on_asked_to_give,
                                           .given = on_given,
                                           .action = on_given_action,
                                           .gone = on_successor_gone,
                                           .arg = p};
    return p->o.handover ? gw_giver_create(p->loop, &config, &p->giver, ctx) : GW_OK;
}

/* ---- all of it ---- */

static gw_err_t start(struct program *p, struct gw_err_ctx *ctx)
{
    configure_core(p);
    TRY(open_model(p, ctx));
    TRY(read_key(p, ctx));
    TRY(create_loop(p, ctx));
    if (p->o.handover) TRY(gw_handover_take(p->o.handover, &p->taken, ctx)); /* when we are ready to serve */
    if (strcmp(p->o.journal, "none") != 0) TRY(wait_for_journal(p, ctx));
    if (p->journal) p->core_config.term = gw_journal_term(p->journal);
    TRY(gw_hub_create(p->loop, &p->core_config, &p->log, &p->hub, ctx));
    TRY(create_layouts(p, ctx));
    TRY(create_links(p, ctx));
    TRY(create_front(p, ctx));
    const struct gw_hub_sinks sinks = {
        .send = send_to_link, .close = close_link, .links = p->links, .front = tell_front, .front_arg = p};
    gw_hub_set_sinks(p->hub, &sinks);
    TRY(create_clouds(p, ctx));
    TRY(restore(p, ctx));
    TRY(begin_taken(p, ctx));
    TRY(listen_for_successor(p, ctx));
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
