#include "controller/cli/cloud_cmd.h"

#include <event2/event.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/file.h"
#include "controller/cli/cloud_ask.h"
#include "controller/cli/sim_api.h"

#define TICK_MS    100
#define NOTICE_S   30.0
#define INTRO_MAX  2048
#define MARKET_MAX (SIM_INSTANCES_MAX / SIM_MARKETS)

struct options {
    struct sim_cloud_config cloud;
    const char *listen, *trace, *zones, *ready_file, *kv, *kv_restore, *store, *isa, *weights_from;
    int64_t spot, on_demand, supply, kv_tokens, memory_limit;
    double trace_speed, notice_s, boot_s, spot_usd_h, on_demand_usd_h;
};

struct program {
    struct options o;
    const char *worker_flags[16];
    char kv_tokens[24], memory_limit[24];
    struct sim_cloud cloud;
    struct sim_api *api;
    struct event_base *loop;
    struct event *tick, *sigint, *sigterm;
    gw_err_t err; /* that ends it */
    struct gw_err_ctx *ctx;
};

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct program *p = arg;
    (void)fd;
    (void)what;
    p->err = sim_cloud_tick(&p->cloud, p->ctx);
    sim_api_tick(p->api);
    if (p->err != GW_OK) event_base_loopbreak(p->loop);
}

static void on_end_signal(evutil_socket_t sig, short what, void *arg)
{
    (void)sig;
    (void)what;
    event_base_loopbreak(((struct program *)arg)->loop);
}

/* ---- what the flags say -------------------------------------------------------------------------------- */

static gw_err_t read_zones(const char *text, struct sim_groups *g, struct gw_err_ctx *ctx)
{
    while (g->zones_len < SIM_ZONES_MAX) {
        size_t len = strcspn(text, ",");
        if (len == 0 || len >= SIM_ZONE_MAX || strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") < len)
            break;
        memcpy(g->zones[g->zones_len++], text, len);
        if (text[len] == '\0') return GW_OK;
        text += len + 1;
    }
    return gw_fail(
        ctx, GW_ERR_INPUT,
        "--zones: expected at most %d names of lower-case letters, digits and '-', with commas between",
        SIM_ZONES_MAX);
}

static gw_err_t configure_groups(struct program *p, struct gw_err_ctx *ctx)
{
    const struct options *o = &p->o;
    struct sim_groups *g = &p->cloud.groups;
    *g = (struct sim_groups){.desired = {(uint32_t)o->spot, (uint32_t)o->on_demand},
                             .supply = (uint32_t)o->supply,
                             .usd_h = {o->spot_usd_h, o->on_demand_usd_h},
                             .boot_us = (int64_t)(o->boot_s * (double)GW_US_PER_S),
                             .notice_us = (int64_t)(o->notice_s * (double)GW_US_PER_S)};
    return read_zones(o->zones, g, ctx);
}

/* Flags that instances' workers get as they are here. */
static void configure_workers(struct program *p)
{
    const struct options *o = &p->o;
    snprintf(p->kv_tokens, sizeof p->kv_tokens, "%lld", (long long)o->kv_tokens);
    snprintf(p->memory_limit, sizeof p->memory_limit, "%lld", (long long)o->memory_limit);
    const char *const flags[] = {"--kv",           o->kv,           "--kv-restore", o->kv_restore,
                                 "--store",        o->store,        "--isa",        o->isa,
                                 "--weights-from", o->weights_from, "--kv-tokens",  p->kv_tokens,
                                 "--memory-limit", p->memory_limit};
    _Static_assert(sizeof flags <= sizeof p->worker_flags, "room for them");
    memcpy(p->worker_flags, flags, sizeof flags);
    p->cloud.config = o->cloud;
    p->cloud.config.notice_s = o->notice_s;
    p->cloud.config.worker_flags = p->worker_flags;
    p->cloud.config.worker_flags_len = sizeof flags / sizeof flags[0];
    p->cloud.trace_speed = o->trace_speed;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static gw_err_t write_ready_file(const struct program *p, struct gw_err_ctx *ctx)
{
    char text[64];
    if (!p->o.ready_file) return GW_OK;
    int len = snprintf(text, sizeof text, "{\"port\": %u}\n", sim_api_port(p->api));
    return gw_file_replace(p->o.ready_file, text, (size_t)len, 0644, ctx);
}

static gw_err_t open_loop(struct program *p, struct gw_err_ctx *ctx)
{
    const struct timeval tick = {.tv_usec = TICK_MS * 1000};
    p->loop = event_base_new();
    if (!p->loop) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    TRY(sim_api_open(p->loop, p->o.listen, &p->cloud, &p->api, ctx));
    p->tick = event_new(p->loop, -1, EV_PERSIST, on_tick, p);
    p->sigint = evsignal_new(p->loop, SIGINT, on_end_signal, p);
    p->sigterm = evsignal_new(p->loop, SIGTERM, on_end_signal, p);
    if (!p->tick || !p->sigint || !p->sigterm || event_add(p->tick, &tick) != 0 ||
        event_add(p->sigint, NULL) != 0 || event_add(p->sigterm, NULL) != 0)
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    return GW_OK;
}

static gw_err_t start(struct program *p, struct gw_err_ctx *ctx)
{
    TRY(configure_groups(p, ctx));
    configure_workers(p);
    if (p->o.trace) TRY(sim_trace_read(p->o.trace, &p->cloud.trace, ctx));
    TRY(sim_cloud_start(&p->cloud, ctx));
    TRY(open_loop(p, ctx));
    TRY(write_ready_file(p, ctx));
    printf("godwit cloud: groups 'spot' and 'on-demand' at %s; Ctrl-C ends all instances\n", p->cloud.url);
    fflush(stdout);
    return GW_OK;
}

static void stop(struct program *p)
{
    sim_cloud_stop(&p->cloud);
    sim_api_close(p->api);
    if (p->tick) event_free(p->tick);
    if (p->sigint) event_free(p->sigint);
    if (p->sigterm) event_free(p->sigterm);
    if (p->loop) event_base_free(p->loop);
}

/* ---- flags --------------------------------------------------------------------------------------------- */

static void print_help(const struct gw_flag *flags)
{
    char intro[INTRO_MAX];
    snprintf(
        intro, sizeof intro,
        "Plays a cloud for a controller that runs with\n"
        "    --cloud sim --cloud-endpoint URL --spot-group spot --on-demand-group on-demand --journal DIR\n"
        "Each instance is a worker on this machine; the groups' sizes are the controller's to set.\n"
        "While one runs (here, or by `godwit up --cloud sim`), its instances' fate is yours:\n%s",
        cloud_ask_help);
    gw_args_help(
        "godwit cloud --model DIR --cluster-key-file FILE [flags] | godwit cloud VERB … [--listen HOST:PORT]",
        intro, flags);
}

static gw_err_t parse(struct options *o, int argc, char **argv, const char **words, int *words_len,
                      bool *help, struct gw_err_ctx *ctx)
{
    struct sim_cloud_config *c = &o->cloud;
    const struct gw_flag flags[] = {
        {"model", GW_FLAG_STRING, &c->model, "DIR", "the workers' model (needed)", 0, 0},
        {"weights", GW_FLAG_STRING, &c->weights, "FORMAT", "what they keep it in: file, int8 or fp8", 0, 0},
        {"cluster-key-file", GW_FLAG_STRING, &c->key_file, "FILE", "the cluster's secret (needed)", 0, 0},
        {"controller", GW_FLAG_STRING, &c->controller, "HOST:PORT[,...]",
         "what workers dial (default: 127.0.0.1:8002)", 0, 0},
        {"admin-url", GW_FLAG_STRING, &c->admin_url, "URL",
         "the controller's admin listener: each instance gets a godwit-watch that tells it of notices "
         "(default: "
         "without one; a notice is SIGTERM to the worker)",
         0, 0},
        {"controller-ready", GW_FLAG_STRING, &c->ready_file, "FILE",
         "both are in the controller's --ready-file; nothing runs before it is there", 0, 0},
        {"listen", GW_FLAG_STRING, &o->listen, "HOST:PORT", "the API: --cloud-endpoint http://HOST:PORT", 0,
         0},
        {"ready-file", GW_FLAG_STRING, &o->ready_file, "FILE", "write its port there as JSON once listening",
         0, 0},
        {"spot", GW_FLAG_INT, &o->spot, "N", "first size of the group 'spot'", 0, MARKET_MAX},
        {"on-demand", GW_FLAG_INT, &o->on_demand, "N", "of 'on-demand'", 0, MARKET_MAX},
        {"supply", GW_FLAG_INT, &o->supply, "N", "spot instances that there are at most", 0, MARKET_MAX},
        {"trace", GW_FLAG_STRING, &o->trace, "FILE",
         "supply over time instead: lines `ms,add|remove,node`, `[ms, \"add\"|\"remove\", {\"nodes\": "
         "[…]}]`, or "
         "`s,count`",
         0, 0},
        {"trace-speed", GW_FLAG_DOUBLE, &o->trace_speed, "X", "its time goes so much faster", 0.001, 1e6},
        {"notice-s", GW_FLAG_DOUBLE, &o->notice_s, "S",
         "notice of a reclaim (AWS 120, GCP and Azure 30; 0: none; if it is not said, 30)", 0, 3600},
        {"boot-s", GW_FLAG_DOUBLE, &o->boot_s, "S", "until a new instance runs", 0, 3600},
        {"zones", GW_FLAG_STRING, &o->zones, "NAME[,...]", "new instances are in these by turns", 0, 0},
        {"spot-price", GW_FLAG_DOUBLE, &o->spot_usd_h, "USD", "of a spot instance per hour", 1e-6, 1e6},
        {"on-demand-price", GW_FLAG_DOUBLE, &o->on_demand_usd_h, "USD",
         "of one on demand; clouds do not tell it: the controller has a flag of that name", 1e-6, 1e6},
        {"threads-per-worker", GW_FLAG_INT, &c->threads, "N", "threads of each worker", 1, 256},
        {"kv-tokens", GW_FLAG_INT, &o->kv_tokens, "N", "of each worker (godwit-worker --help), as are:", 0,
         1e9},
        {"memory-limit", GW_FLAG_INT, &o->memory_limit, "BYTES", "", 0, 9e15},
        {"kv", GW_FLAG_STRING, &o->kv, "FORMAT", "", 0, 0},
        {"kv-restore", GW_FLAG_STRING, &o->kv_restore, "HOW", "", 0, 0},
        {"store", GW_FLAG_STRING, &o->store, "URL[,...]", "", 0, 0},
        {"isa", GW_FLAG_STRING, &o->isa, "ISA", "", 0, 0},
        {"weights-from", GW_FLAG_STRING, &o->weights_from, "HOW", "", 0, 0},
        {"log-dir", GW_FLAG_STRING, &c->log_dir, "DIR", "where the instances' logs go", 0, 0},
        {0}};
    TRY(gw_args_parse(argc, argv, flags, words, CLOUD_WORDS_MAX, words_len, help, ctx));
    if (*help) print_help(flags);
    return GW_OK;
}

static gw_err_t play(struct program *p, struct gw_err_ctx *ctx)
{
    if (!p->o.cloud.model || !p->o.cloud.key_file)
        return gw_fail(ctx, GW_ERR_INPUT, "--model DIR and --cluster-key-file FILE are needed");
    if (isnan(p->o.notice_s)) p->o.notice_s = NOTICE_S;
    if (!p->o.cloud.controller && !p->o.cloud.ready_file) p->o.cloud.controller = "127.0.0.1:8002";
    gw_err_t err = start(p, ctx);
    if (err == GW_OK) event_base_dispatch(p->loop);
    if (err == GW_OK) err = p->err;
    stop(p);
    return err;
}

int gw_cloud_main(int argc, char **argv)
{
    struct gw_err_ctx ctx = {0};
    const char *words[CLOUD_WORDS_MAX];
    int words_len = 0;
    bool help = false;
    struct program *p = calloc(1, sizeof *p);
    if (!p) return 1;
    p->ctx = &ctx;
    p->o = (struct options){.cloud = {.weights = "file", .log_dir = ".", .threads = 1},
                            .listen = CLOUD_ENDPOINT_DEFAULT,
                            .zones = "here",
                            .spot = 1,
                            .supply = MARKET_MAX,
                            .trace_speed = 1,
                            .notice_s = NAN,
                            .boot_s = 1,
                            .spot_usd_h = 0.25,
                            .on_demand_usd_h = 1,
                            .kv = "file",
                            .kv_restore = "auto",
                            .store = "peers",
                            .isa = "auto",
                            .weights_from = "auto"};
    signal(SIGPIPE, SIG_IGN);
    gw_err_t err = parse(&p->o, argc, argv, words, &words_len, &help, &ctx);
    if (err == GW_OK && !help)
        err = words_len > 0 ? cloud_ask(p->o.listen, words, words_len, p->o.notice_s, &ctx) : play(p, &ctx);
    if (err != GW_OK) fprintf(stderr, "godwit cloud: %s\n", ctx.text);
    free(p);
    return err == GW_OK ? 0 : 1;
}
