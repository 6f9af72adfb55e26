#include "controller/options.h"

#include <string.h>

#include "base/args.h"
#include "base/log.h"
#include "base/sockaddr.h"

#define OWN_FLAGS_MAX 64

static const struct gw_controller_options defaults = {
    .host = "127.0.0.1",
    .port = 8000,
    .admin_listen = "127.0.0.1:8001",
    .worker_listen = "127.0.0.1:8002",
    .weights = "file",
    .kv = "file",
    .log_level = "info",
    .layout = "auto",
    .journal = "none",
    .resume_grace_s = 60,
    .lease_s = 10,
    .warm_timeout_s = 10,
    .max_connections = 4096,
    .max_body_bytes = 8 << 20,
    .max_queue = 4096,
    .max_queue_wait_s = 600,
    .heartbeat_ms = 250,
    .heartbeat_timeout_ms = 1000, /* found within 1.5 s: one missed beat and a busy machine must not count */
    .text_threads = 2,
    .sse_ping_s = 15,
    .stop_grace_s = 10,
};

static gw_err_t parse_flags(int argc, char **argv, struct gw_controller_options *o, bool *help,
                            struct gw_err_ctx *ctx)
{
    struct gw_flag flags[OWN_FLAGS_MAX + GW_CAPACITY_FLAGS + 1] = {
        {"model", GW_FLAG_STRING, &o->model, "DIR", "model directory in Hugging Face form (needed)", 0, 0},
        {"model-name", GW_FLAG_STRING, &o->model_name, "NAME", "name in the API (default: the directory's)",
         0, 0},
        {"weights", GW_FLAG_STRING, &o->weights, "FORMAT", "the workers': file, int8 or fp8", 0, 0},
        {"kv", GW_FLAG_STRING, &o->kv, "FORMAT", "the workers': file or int8", 0, 0},
        {"cluster-key-file", GW_FLAG_STRING, &o->cluster_key_file, "FILE",
         "secret that all programs of the cluster share (needed)", 0, 0},
        {"host", GW_FLAG_STRING, &o->host, "ADDR", "address of the HTTP front", 0, 0},
        {"port", GW_FLAG_INT, &o->port, "PORT", "its port, 0 = any free one", 0, 65535},
        {"admin-listen", GW_FLAG_STRING, &o->admin_listen, "HOST:PORT", "admin and metrics", 0, 0},
        {"worker-listen", GW_FLAG_STRING, &o->worker_listen, "HOST:PORT", "where workers dial", 0, 0},
        {"insecure-plaintext", GW_FLAG_BOOL, &o->insecure_plaintext, NULL,
         "no TLS off loopback, where prompts then travel readable; the same for controller and workers", 0,
         0},
        {"api-keys", GW_FLAG_STRING, &o->api_keys, "FILE", "lines tenant:key; without it no key is asked for",
         0, 0},
        {"admin-token-file", GW_FLAG_STRING, &o->admin_token_file, "FILE",
         "bearer token of the admin listener", 0, 0},
        {"max-connections", GW_FLAG_INT, &o->max_connections, "N", "HTTP connections at most", 1, 1000000},
        {"max-body-bytes", GW_FLAG_INT, &o->max_body_bytes, "N", "HTTP body at most", 1024, 64 << 20},
        {"max-queue", GW_FLAG_INT, &o->max_queue, "N", "requests waiting for a worker at most (then 429)", 1,
         1000000},
        {"max-queue-wait", GW_FLAG_DOUBLE, &o->max_queue_wait_s, "S", "how long one waits at most (then 503)",
         0.1, 86400},
        {"heartbeat-ms", GW_FLAG_INT, &o->heartbeat_ms, "MS", "asked of workers", 10, 60000},
        {"heartbeat-timeout-ms", GW_FLAG_INT, &o->heartbeat_timeout_ms, "MS",
         "silence that means a worker is lost", 50, 600000},
        {"warm-timeout", GW_FLAG_DOUBLE, &o->warm_timeout_s, "S",
         "before a change of layout or a drain, KV is copied ahead for so long at most, 0 = it is not", 0,
         600},
        {"sse-ping-s", GW_FLAG_DOUBLE, &o->sse_ping_s, "S", "comment in a stream after so much silence", 0.1,
         3600},
        {"text-threads", GW_FLAG_INT, &o->text_threads, "N", "threads for templates and tokenizing", 1, 16},
        {"stop-grace-s", GW_FLAG_DOUBLE, &o->stop_grace_s, "S", "SIGTERM lets requests finish for so long", 0,
         3600},
        {"resume-grace", GW_FLAG_DOUBLE, &o->resume_grace_s, "S",
         "a stream whose client sent Godwit-Resume: 1 lives so long without it (GET /v1/streams/ID goes on)",
         0, 86400},
        {"journal", GW_FLAG_STRING, &o->journal, "DIR|URL|none",
         "where such streams outlive this process: a directory (made if it is not there; mode 0700), "
         "redis://HOST:PORT[/DB], rediss://HOST:PORT[/DB] (TLS), redis:///SOCKET, "
         "redis+sentinel://HOST:PORT,HOST:PORT/MASTER[/DB] (or rediss+…), or none: they end with it",
         0, 0},
        {"journal-password-file", GW_FLAG_STRING, &o->journal_password_file, "FILE", "Redis' password", 0, 0},
        {"redis-ca-file", GW_FLAG_STRING, &o->redis_ca_file, "FILE",
         "who may sign the certificate of a rediss:// journal (PEM; default: whom the system trusts)", 0, 0},
        {"redis-tls-name", GW_FLAG_STRING, &o->redis_tls_name, "NAME",
         "that this certificate must be for (default: the address)", 0, 0},
        {"standby", GW_FLAG_BOOL, &o->standby, NULL,
         "wait until no other controller holds the journal, then take over; without it that is an error", 0,
         0},
        {"handover", GW_FLAG_STRING, &o->handover, "SOCKET",
         "a unix socket by which a controller started later with the same flag takes the place of this one: "
         "listening sockets, journal, workers, and open requests, whose clients notice nothing",
         0, 0},
        {"lease", GW_FLAG_DOUBLE, &o->lease_s, "S",
         "Redis: a controller that is not heard of for so long has lost the journal to a standby", 1, 3600},
        {"layout", GW_FLAG_STRING, &o->layout, "LAYOUT",
         "auto (planned by fleet and load), replicas (each worker alone), or a shape: tp4, 2xtp2, pp2, "
         "3+3+2, 3+5/8",
         0, 0},
        {"slo-ttft", GW_FLAG_DOUBLE, &o->slo_ttft_s, "S",
         "P99 of the time to the first token to plan for, 0 = none is promised", 0, 86400},
        {"slo-tpot", GW_FLAG_DOUBLE, &o->slo_tpot_s, "S", "the same of the time per token", 0, 86400},
        {"ready-file", GW_FLAG_STRING, &o->ready_file, "FILE", "write the ports there as JSON once listening",
         0, 0},
        {"log-level", GW_FLAG_STRING, &o->log_level, "LEVEL", "debug, info, warn, error or none", 0, 0},
        {0}};
    int own = 0;
    while (flags[own].name) own++;
    (void)gw_capacity_options_flags(&o->capacity, &flags[own]);
    TRY(gw_args_parse(argc, argv, flags, NULL, 0, NULL, help, ctx));
    if (*help)
        gw_args_help("godwit-controller --model DIR --cluster-key-file FILE [flags]",
                     "Serves an OpenAI-compatible API and moves its requests over workers that come and go.",
                     flags);
    return GW_OK;
}

static gw_err_t parse_endpoint(const char *flag, const char *text, struct gw_endpoint *out, bool *loopback,
                               struct gw_err_ctx *ctx)
{
    struct sockaddr_storage addr;
    socklen_t len;
    gw_err_t err = gw_sockaddr_split(text, out->host, sizeof out->host, &out->port, ctx);
    if (err == GW_OK) err = gw_sockaddr_parse(out->host, out->port, &addr, &len, ctx);
    if (err != GW_OK) return gw_fail_prefix(ctx, err, "--%s", flag);
    *loopback = gw_sockaddr_is_loopback(&addr);
    return GW_OK;
}

static gw_err_t check(struct gw_controller_options *o, struct gw_err_ctx *ctx)
{
    bool admin_local = false, worker_local = false; /* the worker port speaks TLS off loopback */
    if (!o->model) return gw_fail(ctx, GW_ERR_INPUT, "--model DIR is needed");
    if (!o->cluster_key_file)
        return gw_fail(
            ctx, GW_ERR_INPUT,
            "--cluster-key-file FILE is needed (make one: umask 077; openssl rand -hex 32 > FILE)");
    if (gw_log_level_parse(o->log_level) < 0)
        return gw_fail(ctx, GW_ERR_INPUT, "--log-level %s: expected debug, info, warn, error or none",
                       o->log_level);
    if (o->standby && strcmp(o->journal, "none") == 0)
        return gw_fail(ctx, GW_ERR_INPUT, "--standby needs a --journal: what it takes over is there");
    TRY(gw_weight_format_parse(o->weights, &o->weight_format, ctx));
    TRY(gw_kv_format_parse(o->kv, &o->kv_format, ctx));
    TRY(parse_endpoint("admin-listen", o->admin_listen, &o->admin, &admin_local, ctx));
    TRY(parse_endpoint("worker-listen", o->worker_listen, &o->worker, &worker_local, ctx));
    if (!admin_local && !o->admin_token_file)
        return gw_fail(ctx, GW_ERR_INPUT, "--admin-listen %s is not loopback: --admin-token-file is needed",
                       o->admin_listen);
    return gw_capacity_options_check(&o->capacity, strcmp(o->journal, "none") != 0, ctx);
}

gw_err_t gw_controller_options_parse(int argc, char **argv, struct gw_controller_options *out, bool *help,
                                     struct gw_err_ctx *ctx)
{
    struct gw_controller_options o = defaults;
    gw_capacity_options_default(&o.capacity);
    TRY(parse_flags(argc, argv, &o, help, ctx));
    if (!*help) TRY(check(&o, ctx));
    *out = o;
    return GW_OK;
}
