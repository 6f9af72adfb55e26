#include "worker/options.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/args.h"
#include "base/sockaddr.h"

#define CUDA_DIGITS_MAX 3 /* of a GPU's number */

static const struct gw_worker_options defaults = {
    .controller = "127.0.0.1:8002",
    .device = "cpu",
    .isa_name = "auto",
    .log_level_name = "info",
    .max_batch_tokens = 512,
    .step_target_ms = 150, /* a pause in a text that people read along does not show */
    .max_sequences = 256,
    .term_grace_s = 30,    /* the shortest notice that a cloud gives */
    .step_timeout_s = 120, /* a full prefill step of 8 billion weights on one core takes 80 s */
    .zone = "",
    .sums = "auto",
    .cuda_graphs = "on",
    .store = "peers",
    .numa_node = -1,
    .store_memory_bytes = -1,
    .checkpoint_share = 0.03,
    .egress_usd_gb = 0.01,
    .kv_restore = "auto",
    .weights = "file",
    .kv = "file",
    .weights_from_name = "auto",
};

#define INTRO                                                                                                \
    "Runs a model, or a part of one with other workers, on this machine's cores for the controller that it " \
    "dials.\n"                                                                                               \
    "SIGTERM announces that this machine will go: requests move to other workers, then it ends. A second "   \
    "one, "                                                                                                  \
    "or SIGINT, ends it at once.\n"                                                                          \
    "Exit status: 0 ended as asked, 1 wrong flags or files; refused by the controller: 10 cluster key, 11 "  \
    "protocol, 12 another model, 13 arithmetic of another digest. 20 --device cannot be used, 21 it failed."

#define PROFILE_HELP                                                                                         \
    "numerics profile (default: by the weights' type, --weights and --kv: cpu-bf16dot-2, cpu-f32-2, "        \
    "cpu-bf16-int8-1, cpu-f32-int8-1; cpu-bf16-kv8-1 etc.). By AMX tiles, of all workers or none: "          \
    "cpu-bf16amx-1, with int8 KV cpu-bf16amx-kv8-1. Of a GPU: exact, or fast (by cuBLASLt; who moves "       \
    "without KV may go on with other tokens)"

static gw_err_t parse_flags(int argc, char **argv, struct gw_worker_options *o, bool *help,
                            struct gw_err_ctx *ctx)
{
    const struct gw_flag flags[] = {
        {"model", GW_FLAG_STRING, &o->model, "DIR", "model directory in Hugging Face form (needed)", 0, 0},
        {"cluster-key-file", GW_FLAG_STRING, &o->cluster_key_file, "FILE",
         "secret that all programs of the cluster share (needed)", 0, 0},
        {"controller", GW_FLAG_STRING, &o->controller, "HOST:PORT[,...]",
         "the controller's worker port; behind it those of its standbys, tried in turn", 0, 0},
        {"insecure-plaintext", GW_FLAG_BOOL, &o->insecure_plaintext, NULL,
         "no TLS off loopback, where prompts and KV then travel readable; the same for controller and "
         "workers"},
        {"worker-id", GW_FLAG_STRING, &o->worker_id, "ID", "unique in the cluster (default: host-pid)", 0, 0},
        {"instance-id", GW_FLAG_STRING, &o->instance_id, "ID",
         "the cloud's id of this machine (default: host)", 0, 0},
        {"zone", GW_FLAG_STRING, &o->zone, "NAME",
         "where this machine is: stages of a pipeline never span zones", 0, 0},
        {"data-listen", GW_FLAG_STRING, &o->data_listen, "HOST:PORT",
         "where other workers connect (default: the address by which the controller is reached, any free "
         "port)"},
        {"sums", GW_FLAG_STRING, &o->sums, "HOW",
         "auto: through shared memory with workers of this machine, between GPUs by NCCL; tcp: never", 0, 0},
        {"kv-restore", GW_FLAG_STRING, &o->kv_restore, "HOW",
         "KV of requests that ran elsewhere: fetch it from who has it, recompute it, or auto: what is "
         "predicted to be faster"},
        {"weights", GW_FLAG_STRING, &o->weights, "FORMAT",
         "file: as the model's files have them; int8, fp8: quantized when loaded. The controller's, too", 0,
         0},
        {"kv", GW_FLAG_STRING, &o->kv, "FORMAT",
         "of KV pages. file: of the same type; int8: a little more than half of bf16. The controller's, too"},
        {"weights-from", GW_FLAG_STRING, &o->weights_from_name, "HOW",
         "where missing weights are loaded from: disk, peers (other workers, wherever they have them), or "
         "auto: as is predicted to be faster"},
        {"step-timeout-s", GW_FLAG_DOUBLE, &o->step_timeout_s, "S",
         "a worker that says nothing for so long within a step of a common pipeline is taken as gone", 0.1,
         86400},
        {"step-target-ms", GW_FLAG_DOUBLE, &o->step_target_ms, "MS",
         "how long a step should last that takes in tokens of prompts: streams wait meanwhile; 0 = any time",
         0, 86400e3},
        {"device", GW_FLAG_STRING, &o->device, "DEVICE", "cpu: this machine's cores; cuda:N: a GPU", 0, 0},
        {"cuda-graphs", GW_FLAG_STRING, &o->cuda_graphs, "HOW",
         "on: steps of decoding are put on a GPU at once, where they can; off: operation by operation", 0, 0},
        {"threads", GW_FLAG_INT, &o->threads, "N", "threads that compute, 0 = one per core", 0, 1024},
        {"pin", GW_FLAG_BOOL, &o->pin, NULL, "pin them to cores", 0, 0},
        {"numa-node", GW_FLAG_INT, &o->numa_node, "N",
         "run on this NUMA node, with weights and KV in its memory; -1 = on all", -1, 1023},
        {"kv-tokens", GW_FLAG_INT, &o->kv_tokens, "N",
         "capacity of the page pool; 0 = what --memory-limit leaves, 32 contexts at most", 0,
         (double)UINT32_MAX / 2},
        {"memory-limit", GW_FLAG_INT, &o->memory_limit_bytes, "BYTES",
         "that weights and KV pages may use; 0 = a quarter of the machine's, nine tenths of a GPU's", 0, 0},
        {"store", GW_FLAG_STRING, &o->store, "URL[,...]",
         "where KV pages are kept: peers (other workers' memory), or Redis: redis://HOST:PORT, "
         "rediss://HOST:PORT (TLS), redis+unix:PATH; several servers share them"},
        {"store-password-file", GW_FLAG_STRING, &o->store_password_file, "FILE", "of these Redis servers"},
        {"redis-ca-file", GW_FLAG_STRING, &o->redis_ca_file, "FILE",
         "who may sign certificates of rediss:// servers (PEM; default: whom the system trusts)", 0, 0},
        {"redis-tls-name", GW_FLAG_STRING, &o->redis_tls_name, "NAME",
         "that these certificates must be for (default: the address)", 0, 0},
        {"store-memory", GW_FLAG_INT, &o->store_memory_bytes, "BYTES",
         "of others' KV pages kept here, beside --memory-limit; 0 = none, -1 = an eighth of that", -1, 9e15},
        {"checkpoint-share", GW_FLAG_DOUBLE, &o->checkpoint_share, "PART",
         "of the computing threads' time that storing pages may take; 0 = none are stored", 0, 1},
        {"checkpoint-bytes-s", GW_FLAG_DOUBLE, &o->checkpoint_bytes_s, "BYTES",
         "per second that are stored at most; 0 = no limit", 0, 1e15},
        {"checkpoint-max-usd-h", GW_FLAG_DOUBLE, &o->checkpoint_max_usd_h, "USD",
         "per hour that they may cost by going to other zones; 0 = no limit", 0, 1e6},
        {"egress-usd-gb", GW_FLAG_DOUBLE, &o->egress_usd_gb, "USD", "of 10^9 bytes between zones", 0, 1e3},
        {"max-batch-tokens", GW_FLAG_INT, &o->max_batch_tokens, "N", "tokens per step", 1, 65536},
        {"max-sequences", GW_FLAG_INT, &o->max_sequences, "N", "sequences per step", 1, 65536},
        {"profile", GW_FLAG_STRING, &o->profile, "NAME", PROFILE_HELP, 0, 0},
        {"isa", GW_FLAG_STRING, &o->isa_name, "NAME",
         "auto, amx (int8, bf16amx), avx512vnni (int8), avx512bf16, avx512, avx2, c: same bits, other speed"},
        {"term-grace-s", GW_FLAG_DOUBLE, &o->term_grace_s, "S", "time from SIGTERM to the end, at most", 0,
         86400},
        {"digest", GW_FLAG_BOOL, &o->digest, NULL, "print profile and digest of this machine, and end", 0, 0},
        {"log-level", GW_FLAG_STRING, &o->log_level_name, "LEVEL", "debug, info, warn, error or none", 0, 0},
        {0}};
    TRY(gw_args_parse(argc, argv, flags, NULL, 0, NULL, help, ctx));
    if (*help) gw_args_help("godwit-worker --model DIR --cluster-key-file FILE [flags]", INTRO, flags);
    return GW_OK;
}

static gw_err_t parse_isa(struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    static const struct {
        const char *name;
        enum gw_isa isa;
    } names[] = {{"auto", GW_ISA_AUTO},
                 {"amx", GW_ISA_AMX},
                 {"avx512vnni", GW_ISA_AVX512VNNI},
                 {"avx512bf16", GW_ISA_AVX512BF16},
                 {"avx512", GW_ISA_AVX512},
                 {"avx2", GW_ISA_AVX2},
                 {"c", GW_ISA_C}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i].name, o->isa_name) != 0) continue;
        o->isa = names[i].isa;
        return GW_OK;
    }
    return gw_fail(ctx, GW_ERR_INPUT,
                   "--isa %s: expected auto, amx, avx512vnni, avx512bf16, avx512, avx2 or c", o->isa_name);
}

/* What a GPU's profile does not have cannot be asked of it. */
static gw_err_t check_gpu(struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    o->fast = o->profile && strcmp(o->profile, "fast") == 0;
    if (o->profile && !o->fast && strcmp(o->profile, "exact") != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "--device cuda:N: --profile %.64s: expected exact or fast",
                       o->profile);
    if (o->isa != GW_ISA_AUTO)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "--device cuda:N: it has no instruction sets to choose from: no --isa");
    return GW_OK;
}

static gw_err_t parse_device(struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    static const char prefix[] = "cuda:";
    const char *number = o->device + sizeof prefix - 1;
    o->cuda = -1;
    if (strcmp(o->device, "cpu") == 0) return GW_OK;
    bool ok = strncmp(o->device, prefix, sizeof prefix - 1) == 0 && isdigit((unsigned char)*number);
    size_t digits = ok ? strspn(number, "0123456789") : 0;
    if (!ok || number[digits] || digits > CUDA_DIGITS_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "--device %.64s: expected cpu, or cuda:N", o->device);
    o->cuda = (int)strtol(number, NULL, 10);
    return check_gpu(o, ctx);
}

static gw_err_t parse_controller(struct gw_worker_options *o, const char *text, size_t len,
                                 struct gw_err_ctx *ctx)
{
    char endpoint[256], host[256];
    uint16_t port = 0;
    if (o->controllers_len == GW_LINK_CONTROLLERS_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "more than %d controllers", GW_LINK_CONTROLLERS_MAX);
    if (len >= sizeof endpoint) return gw_fail(ctx, GW_ERR_INPUT, "an address is too long");
    struct gw_link_endpoint *out = &o->controllers[o->controllers_len++];
    snprintf(endpoint, sizeof endpoint, "%.*s", (int)len, text);
    TRY(gw_sockaddr_split(endpoint, host, sizeof host, &port, ctx));
    return gw_sockaddr_parse(host, port, &out->addr, &out->len, ctx);
}

static gw_err_t parse_controllers(struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    for (const char *at = o->controller; err == GW_OK && at;) {
        size_t len = strcspn(at, ",");
        err = parse_controller(o, at, len, ctx);
        at = at[len] ? at + len + 1 : NULL;
    }
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "--controller");
}

/* One store: its address as store_redis.h wants it, "HOST:PORT", "rediss://HOST:PORT" or "/path". */
static gw_err_t parse_store(struct gw_worker_options *o, const char *url, size_t len, struct gw_err_ctx *ctx)
{
    static const char tcp[] = "redis://", tls[] = "rediss://", path[] = "redis+unix:";
    const char *address = NULL;
    if (strncmp(url, tcp, sizeof tcp - 1) == 0) address = url + sizeof tcp - 1;
    if (strncmp(url, path, sizeof path - 1) == 0) address = url + sizeof path - 1;
    if (strncmp(url, tls, sizeof tls - 1) == 0) address = url;
    if (!address || address >= url + len || (url[5] == '+' && *address != '/'))
        return gw_fail(ctx, GW_ERR_INPUT,
                       "%.*s: expected redis://HOST:PORT, rediss://HOST:PORT or redis+unix:/PATH", (int)len,
                       url);
    if (o->redis_len == GW_STORES_REDIS_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "more than %d servers", GW_STORES_REDIS_MAX);
    size_t address_len = (size_t)(url + len - address);
    if (address_len >= GW_STORES_ADDRESS_BYTES)
        return gw_fail(ctx, GW_ERR_INPUT, "%.*s is too long", (int)len, url);
    memcpy(o->redis[o->redis_len], address, address_len);
    o->redis[o->redis_len++][address_len] = '\0';
    return GW_OK;
}

static gw_err_t parse_stores(struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    if (strcmp(o->store, "peers") == 0) return GW_OK;
    for (const char *at = o->store; err == GW_OK && at;) {
        size_t len = strcspn(at, ",");
        err = parse_store(o, at, len, ctx);
        at = at[len] ? at + len + 1 : NULL;
    }
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "--store");
}

static gw_err_t parse_data_listen(struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    struct sockaddr_storage addr;
    socklen_t len;
    if (!o->data_listen) return GW_OK;
    gw_err_t err = gw_sockaddr_split(o->data_listen, o->data_host, sizeof o->data_host, &o->data_port, ctx);
    if (err == GW_OK) err = gw_sockaddr_parse(o->data_host, o->data_port, &addr, &len, ctx);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "--data-listen");
}

static gw_err_t parse_kv_restore(struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    o->always_fetch = strcmp(o->kv_restore, "fetch") == 0;
    o->never_fetch = strcmp(o->kv_restore, "recompute") == 0;
    if (o->always_fetch || o->never_fetch || strcmp(o->kv_restore, "auto") == 0) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "--kv-restore %s: expected auto, fetch or recompute", o->kv_restore);
}

static gw_err_t parse_weights_from(struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    static const char *const names[] = {
        [GW_WEIGHTS_AUTO] = "auto", [GW_WEIGHTS_DISK] = "disk", [GW_WEIGHTS_PEERS] = "peers"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], o->weights_from_name) != 0) continue;
        o->weights_from = (enum gw_weights_from)i;
        return GW_OK;
    }
    return gw_fail(ctx, GW_ERR_INPUT, "--weights-from %s: expected auto, disk or peers",
                   o->weights_from_name);
}

static gw_err_t parse_sums(struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    o->shared_memory = strcmp(o->sums, "auto") == 0;
    if (o->shared_memory || strcmp(o->sums, "tcp") == 0) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "--sums %s: expected auto or tcp", o->sums);
}

static gw_err_t parse_cuda_graphs(struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    o->graphs = strcmp(o->cuda_graphs, "on") == 0;
    if (o->graphs || strcmp(o->cuda_graphs, "off") == 0) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "--cuda-graphs %s: expected on or off", o->cuda_graphs);
}

/* Names appear in logs, metrics and HTTP: printable and without quotes. */
static gw_err_t check_name(const char *flag, const char *name, struct gw_err_ctx *ctx)
{
    size_t len = strlen(name);
    bool ok = len >= 1 && len <= GW_WIRE_NAME_MAX;
    for (size_t i = 0; ok && i < len; i++) ok = isalnum((unsigned char)name[i]) || strchr("._:-", name[i]);
    if (ok) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "--%s: expected 1 to %d letters, digits, '.', '_', ':', '-'", flag,
                   GW_WIRE_NAME_MAX);
}

static gw_err_t name_it(struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    char host[GW_WIRE_NAME_MAX / 2];
    if (gethostname(host, sizeof host) != 0) memcpy(host, "localhost", sizeof "localhost");
    host[sizeof host - 1] = '\0';
    if (o->worker_id) TRY(check_name("worker-id", o->worker_id, ctx));
    if (o->instance_id) TRY(check_name("instance-id", o->instance_id, ctx));
    if (o->worker_id)
        snprintf(o->worker_name, sizeof o->worker_name, "%s", o->worker_id);
    else
        snprintf(o->worker_name, sizeof o->worker_name, "%s-%d", host, (int)getpid());
    snprintf(o->instance_name, sizeof o->instance_name, "%s", o->instance_id ? o->instance_id : host);
    return GW_OK;
}

/* bytes/s = USD/h · 10^9 bytes / (USD per 10^9 bytes) / 3600 s/h; what is free has no limit. */
static void limit_egress(struct gw_worker_options *o)
{
    if (o->checkpoint_max_usd_h > 0 && o->egress_usd_gb > 0)
        o->checkpoint_far_bytes_s = o->checkpoint_max_usd_h * 1e9 / o->egress_usd_gb / 3600;
}

static gw_err_t check(struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    int level = gw_log_level_parse(o->log_level_name);
    if (level < 0)
        return gw_fail(ctx, GW_ERR_INPUT, "--log-level %s: expected debug, info, warn, error or none",
                       o->log_level_name);
    o->log_level = (enum gw_log_level)level;
    TRY(parse_isa(o, ctx));
    TRY(parse_device(o, ctx));
    TRY(gw_weight_format_parse(o->weights, &o->weight_format, ctx));
    TRY(gw_kv_format_parse(o->kv, &o->kv_format, ctx));
    if (o->memory_limit_bytes < 0) return gw_fail(ctx, GW_ERR_INPUT, "--memory-limit must not be negative");
    if (o->digest) return GW_OK;
    if (!o->model) return gw_fail(ctx, GW_ERR_INPUT, "--model DIR is needed");
    if (!o->cluster_key_file)
        return gw_fail(
            ctx, GW_ERR_INPUT,
            "--cluster-key-file FILE is needed (make one: umask 077; openssl rand -hex 32 > FILE)");
    if (o->zone[0]) TRY(check_name("zone", o->zone, ctx));
    TRY(parse_sums(o, ctx));
    TRY(parse_cuda_graphs(o, ctx));
    TRY(parse_kv_restore(o, ctx));
    TRY(parse_weights_from(o, ctx));
    TRY(parse_controllers(o, ctx));
    TRY(parse_data_listen(o, ctx));
    TRY(parse_stores(o, ctx));
    limit_egress(o);
    return name_it(o, ctx);
}

gw_err_t gw_worker_options_parse(int argc, char **argv, struct gw_worker_options *out, bool *help,
                                 struct gw_err_ctx *ctx)
{
    struct gw_worker_options o = defaults;
    TRY(parse_flags(argc, argv, &o, help, ctx));
    if (!*help) TRY(check(&o, ctx));
    *out = o;
    return GW_OK;
}
