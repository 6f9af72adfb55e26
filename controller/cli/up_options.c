#include "controller/cli/up_options.h"

#include <string.h>
#include <unistd.h>

#include "base/args.h"

#define SUPPLY_MAX 32 /* of `godwit cloud` */

static const struct up_options defaults = {.host = "127.0.0.1",
                                           .workers = 4,
                                           .port = 8000,
                                           .admin_port = 8001,
                                           .replace_after_s = 3,
                                           .term_grace_s = 30,
                                           .device = "cpu",
                                           .isa = "auto",
                                           .kv_restore = "auto",
                                           .weights = "file",
                                           .kv = "file",
                                           .weights_from = "auto",
                                           .store = "peers",
                                           .cloud = "none",
                                           .zones = "here",
                                           .cloud_port = 8010,
                                           .supply = SUPPLY_MAX,
                                           .spot_usd_h = 0.25,
                                           .on_demand_usd_h = 1,
                                           .layout = "replicas"};

static int default_threads(int64_t workers)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores > workers ? (int)(cores / workers) : 1;
}

static gw_err_t parse_flags(int argc, char **argv, struct up_options *o, bool *help, struct gw_err_ctx *ctx)
{
    const struct gw_flag flags[] = {
        {"model", GW_FLAG_STRING, &o->model, "DIR", "model directory in Hugging Face form", 0, 0},
        {"workers", GW_FLAG_INT, &o->workers, "N", "so many", 1, 64},
        {"device", GW_FLAG_STRING, &o->device, "DEVICE",
         "of each worker: cpu; cuda:N, of which several want --memory-limit", 0, 0},
        {"profile", GW_FLAG_STRING, &o->profile, "NAME",
         "numerics of each worker's GPU: exact (default), or fast (by cuBLASLt: who goes on elsewhere may "
         "get "
         "other tokens); of cpu: godwit-worker --help",
         0, 0},
        {"cuda-graphs", GW_FLAG_STRING, &o->cuda_graphs, "HOW",
         "of each worker's GPU: on (default), off: steps of decoding as CUDA graphs", 0, 0},
        {"host", GW_FLAG_STRING, &o->host, "ADDR", "address of the HTTP front", 0, 0},
        {"port", GW_FLAG_INT, &o->port, "PORT", "its port, 0 = any free one", 0, 65535},
        {"admin-port", GW_FLAG_INT, &o->admin_port, "PORT", "port of the admin listener, 0 = any free one", 0,
         65535},
        {"worker-port", GW_FLAG_INT, &o->worker_port, "PORT", "port that workers dial, 0 = any free one", 0,
         65535},
        {"worker-connect", GW_FLAG_STRING, &o->worker_connect, "HOST:PORT",
         "what workers dial instead (a proxy before the worker port)", 0, 0},
        {"state", GW_FLAG_STRING, &o->state, "FILE", "write a JSON state file once ready and at each change",
         0, 0},
        {"replace-after", GW_FLAG_DOUBLE, &o->replace_after_s, "S",
         "a lost worker is replaced after so many seconds; sim: a new instance boots for so long", 0, 86400},
        {"threads-per-worker", GW_FLAG_INT, &o->threads, "N", "threads of each worker, 0 = cores / workers",
         0, 256},
        {"term-grace-s", GW_FLAG_DOUBLE, &o->term_grace_s, "S",
         "notice that a worker gets by SIGTERM, or sim's cloud gives", 0, 3600},
        {"kv-tokens", GW_FLAG_INT, &o->kv_tokens, "N",
         "KV capacity of each worker in tokens, 0 = its default", 0, 1e9},
        {"memory-limit", GW_FLAG_INT, &o->memory_limit, "BYTES",
         "of each worker, for its weights and KV, 0 = its default", 0, 9e15},
        {"layout", GW_FLAG_STRING, &o->layout, "LAYOUT",
         "replicas (workers of one machine share its cores: cutting gains nothing unless memory is short), "
         "auto, or a "
         "shape such as tp4, 2xtp2, 3+3+2 (godwit-controller --help)",
         0, 0},
        {"kv-restore", GW_FLAG_STRING, &o->kv_restore, "HOW",
         "of each worker: auto, fetch or recompute the KV of requests that ran elsewhere", 0, 0},
        {"weights", GW_FLAG_STRING, &o->weights, "FORMAT", "file: as the model's files have them; int8, fp8",
         0, 0},
        {"kv", GW_FLAG_STRING, &o->kv, "FORMAT", "of KV pages. file: of the same type; int8", 0, 0},
        {"weights-from", GW_FLAG_STRING, &o->weights_from, "HOW", "of each worker: disk, peers, or auto", 0,
         0},
        {"cloud", GW_FLAG_STRING, &o->cloud, "CLOUD",
         "sim: workers are instances of a cloud that is played here (`godwit cloud`), spot with a fallback "
         "on demand, "
         "and the "
         "controller sets the sizes of its groups, at least --workers; none: up replaces workers itself",
         0, 0},
        {"cloud-port", GW_FLAG_INT, &o->cloud_port, "PORT", "sim: port of its API, 0 = any free one", 0,
         65535},
        {"supply", GW_FLAG_INT, &o->supply, "N", "sim: spot instances that there are at most", 0, SUPPLY_MAX},
        {"zones", GW_FLAG_STRING, &o->zones, "NAME[,...]", "sim: new instances are in these by turns", 0, 0},
        {"spot-price", GW_FLAG_DOUBLE, &o->spot_usd_h, "USD", "sim: of a spot instance per hour", 1e-6, 1e6},
        {"on-demand-price", GW_FLAG_DOUBLE, &o->on_demand_usd_h, "USD", "sim: of one on demand", 1e-6, 1e6},
        {"redis", GW_FLAG_BOOL, &o->redis, NULL,
         "start a redis-server as the workers' store of KV pages, instead of their own memory", 0, 0},
        {"store", GW_FLAG_STRING, &o->store, "URL[,...]", "a Redis that is there (godwit-worker --help)", 0,
         0},
        {"isa", GW_FLAG_STRING, &o->isa, "ISA", "auto, amx, avx512vnni, avx512bf16, avx512, avx2 or c", 0, 0},
        {"api-keys", GW_FLAG_STRING, &o->api_keys, "FILE", "lines tenant:key; without it no key is asked for",
         0, 0},
        {"log-dir", GW_FLAG_STRING, &o->log_dir, "DIR", "keep logs there (default: a temporary directory)", 0,
         0},
        {0}};
    TRY(gw_args_parse(argc, argv, flags, NULL, 0, NULL, help, ctx));
    if (*help)
        gw_args_help("godwit up --model DIR [flags]",
                     "Starts a controller and workers on this machine and plays the cloud: a worker that is\n"
                     "killed, frozen or reclaimed (kill -TERM) is replaced. Ends everything on Ctrl-C.",
                     flags);
    return GW_OK;
}

/* What a GPU alone has. */
static gw_err_t check_device(const struct up_options *o, struct gw_err_ctx *ctx)
{
    bool cpu = strcmp(o->device, "cpu") == 0, of_gpu = false, on = false;
    if (!cpu && strncmp(o->device, "cuda:", 5) != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "--device %.64s: expected cpu, or cuda:N", o->device);
    if (o->profile) of_gpu = strcmp(o->profile, "exact") == 0 || strcmp(o->profile, "fast") == 0;
    if (o->profile && of_gpu == cpu)
        return gw_fail(ctx, GW_ERR_INPUT, "--profile %.64s: %s", o->profile,
                       cpu ? "exact and fast are a GPU's: it wants --device cuda:N"
                           : "with --device cuda:N expected exact or fast");
    if (!o->cuda_graphs) return GW_OK;
    on = strcmp(o->cuda_graphs, "on") == 0;
    if (!on && strcmp(o->cuda_graphs, "off") != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "--cuda-graphs %.64s: expected on or off", o->cuda_graphs);
    return cpu && on ? gw_fail(ctx, GW_ERR_INPUT, "--cuda-graphs on: it wants --device cuda:N") : GW_OK;
}

gw_err_t up_options_parse(int argc, char **argv, struct up_options *out, bool *help, struct gw_err_ctx *ctx)
{
    struct up_options o = defaults;
    TRY(parse_flags(argc, argv, &o, help, ctx));
    if (*help) return GW_OK;
    o.sim = strcmp(o.cloud, "sim") == 0;
    if (!o.sim && strcmp(o.cloud, "none") != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "--cloud %.64s: expected sim or none", o.cloud);
    if (o.sim && strcmp(o.device, "cpu") != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "--cloud sim: its instances have no --device %.64s", o.device);
    if (o.sim && o.workers > SUPPLY_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "--cloud sim: at most %d --workers", SUPPLY_MAX);
    TRY(check_device(&o, ctx));
    if (o.threads == 0) o.threads = default_threads(o.workers);
    *out = o;
    return GW_OK;
}
