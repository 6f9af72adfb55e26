/* godwit-worker: one process per device; it dials a controller, says what it can compute, and computes. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/hash.h"
#include "base/numa.h"
#include "base/rng.h"
#include "base/secret.h"
#include "migrate/fingerprint.h"
#include "migrate/profile.h"
#include "migrate/store_peer_server.h"
#include "worker/block_manager.h"
#include "worker/device.h"
#include "worker/options.h"
#include "worker/page_pool.h"
#include "worker/probe.h"
#include "worker/prove.h"
#include "worker/serve.h"

#define DEFAULT_MEMORY_SHARES 4 /* of the machine's memory: four workers fill it */
#define DEFAULT_DEVICE_TENTHS                                                                                \
    9 /* of a GPU's memory: the rest is for activations, which --max-batch-tokens sizes */
#define DEFAULT_STORE_SHARES                                                                                 \
    8 /* of a worker's memory: what it loses, others have; it is there only as it fills */
#define EXIT_WRONG 1

/* All that lives as long as the process. */
struct worker {
    struct gw_worker_options options;
    char log_name[16 + GW_WIRE_NAME_MAX];
    struct gw_log log;
    const struct gw_stop_signals *signals;
    char *key;
    size_t key_len;
    struct gw_tls *tls; /* NULL: --insecure-plaintext */
    struct gw_host host;
    struct gw_worker_device device;
    bool no_device; /* why it ends */
    struct gw_cell_giver giver;
    struct gw_probe_rates rates;
    struct gw_model *model;
    struct gw_store_peer_server *store_server; /* NULL: no memory for others' pages */
    uint64_t store_bytes;
    struct gw_serve *serve;
    struct gw_link *link;
};

static gw_err_t print_digest(const char *profile, const struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    uint8_t digest[GW_DIGEST_BYTES];
    char hex[2 * GW_DIGEST_BYTES + 1];
    TRY(gw_prove_digest(profile, o->isa, digest, ctx));
    gw_hex(digest, sizeof digest, hex);
    printf("%s %s\n", profile, hex);
    return GW_OK;
}

static gw_err_t print_gpu_digest(const struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    const struct gw_log none = {.level = GW_LOG_NONE};
    const struct gw_worker_device_config config = {.cuda = o->cuda,
                                                   .fast = o->fast,
                                                   .version = GW_VERSION,
                                                   .weights = o->weight_format,
                                                   .kv = o->kv_format,
                                                   .threads = 1,
                                                   .log = &none};
    struct gw_worker_device device;
    char hex[2 * GW_DIGEST_BYTES + 1];
    gw_err_t err = gw_worker_device_open(&config, &device, ctx);
    gw_hex(device.digest, sizeof device.digest, hex);
    if (err == GW_OK) printf("%s %s\n", device.ops->profile, hex);
    gw_worker_device_close(&device);
    return err;
}

/* --digest: of the GPU, or of the profile asked for, else of all. */
static gw_err_t print_digests(const struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    if (o->cuda >= 0) return print_gpu_digest(o, ctx);
    if (o->profile) return print_digest(o->profile, o, ctx);
    static const char *const profiles[] = {
        GW_PROFILE_CPU_BF16,          GW_PROFILE_CPU_F32,          GW_PROFILE_CPU_BF16_INT8,
        GW_PROFILE_CPU_F32_INT8,      GW_PROFILE_CPU_BF16_KV8,     GW_PROFILE_CPU_F32_KV8,
        GW_PROFILE_CPU_BF16_INT8_KV8, GW_PROFILE_CPU_F32_INT8_KV8, GW_PROFILE_CPU_BF16_FP8,
        GW_PROFILE_CPU_F32_FP8,       GW_PROFILE_CPU_BF16_FP8_KV8, GW_PROFILE_CPU_F32_FP8_KV8,
        GW_PROFILE_CPU_BF16AMX,       GW_PROFILE_CPU_BF16AMX_KV8};
    gw_err_t err = GW_OK;
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles && err == GW_OK; i++)
        err = print_digest(profiles[i], o, ctx);
    return err;
}

static uint64_t default_memory_bytes(const struct gw_worker_options *o)
{
    struct sysinfo info;
    uint64_t of_node = o->numa_node >= 0 ? gw_numa_memory_bytes(GW_NUMA_SYSFS, (uint32_t)o->numa_node) : 0;
    if (of_node > 0) return of_node / DEFAULT_MEMORY_SHARES;
    if (sysinfo(&info) != 0) return 0;
    return (uint64_t)info.totalram * info.mem_unit / DEFAULT_MEMORY_SHARES;
}

/* Before anything makes threads or touches memory that stays. */
static gw_err_t choose_cores(const struct worker *w, struct gw_err_ctx *ctx)
{
    const struct gw_worker_options *o = &w->options;
    uint32_t nodes[GW_NUMA_NODES_MAX], len = gw_numa_nodes(GW_NUMA_SYSFS, nodes);
    if (o->numa_node >= 0) {
        gw_err_t err = gw_numa_bind(GW_NUMA_SYSFS, (uint32_t)o->numa_node, ctx);
        return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "--numa-node %lld", (long long)o->numa_node);
    }
    if (len > 1 && o->cuda < 0)
        gw_logf(&w->log, GW_LOG_INFO,
                "this machine has %u NUMA nodes: a worker for each (--numa-node), as one pipeline, would "
                "read each one's memory from its own cores",
                len);
    return GW_OK;
}

static gw_err_t open_key(struct worker *w, struct gw_err_ctx *ctx)
{
    const struct gw_worker_options *o = &w->options;
    TRY(gw_secret_read(o->cluster_key_file, &w->key, &w->key_len, ctx));
    const struct gw_tls_config tls = {.key = w->key, .key_len = w->key_len};
    if (!o->insecure_plaintext) TRY(gw_tls_create(&tls, &w->tls, ctx));
    w->host.tls = w->tls;
    return GW_OK;
}

static struct gw_worker_device_config device_config(const struct worker *w, const char *profile)
{
    const struct gw_worker_options *o = &w->options;
    return (struct gw_worker_device_config){.cuda = o->cuda,
                                            .version = GW_VERSION,
                                            .profile = profile,
                                            .weights = o->weight_format,
                                            .kv = o->kv_format,
                                            .f32 = !w->model->all_bf16,
                                            .fast = o->fast,
                                            .graphs = o->graphs,
                                            .isa = o->isa,
                                            .threads = (int)o->threads,
                                            .pin = o->pin,
                                            .step_timeout_us = (int64_t)(o->step_timeout_s * 1e6),
                                            .log = &w->log};
}

/* What it computes on, and whether that goes with what else is asked for. */
static gw_err_t open_device(struct worker *w, struct gw_err_ctx *ctx)
{
    const struct gw_worker_options *o = &w->options;
    struct gw_host *h = &w->host;
    const char *profile =
        o->profile ? o->profile : gw_model_profile(w->model, o->weight_format, o->kv_format);
    const struct gw_worker_device_config config = device_config(w, profile);
    gw_err_t err = gw_worker_device_open(&config, &w->device, ctx);
    w->no_device = err != GW_OK && o->cuda >= 0;
    if (err != GW_OK) return err;
    if (o->fast && gw_profile_exact(w->device.ops->profile))
        gw_logf(&w->log, GW_LOG_INFO,
                "--weights %s: products are the exact profile's, --profile fast or not: %s", o->weights,
                w->device.ops->profile);
    TRY(gw_worker_device_fits(&w->device, &w->model->config, ctx));
    h->ops = w->device.ops;
    h->device = w->device.device;
    if (h->ops->weight != gw_model_weight_type(h->ops->act, o->weight_format))
        return gw_fail(ctx, GW_ERR_INPUT, "--profile %s does not go with --weights %s", h->ops->profile,
                       o->weights);
    if ((h->ops->kv == GW_I8) != (o->kv_format == GW_KV_INT8))
        return gw_fail(ctx, GW_ERR_INPUT, "--profile %s does not go with --kv %s", h->ops->profile, o->kv);
    return GW_OK;
}

static gw_err_t open_model(struct worker *w, struct gw_err_ctx *ctx)
{
    const struct gw_worker_options *o = &w->options;
    struct gw_host *h = &w->host;
    TRY(open_key(w, ctx));
    TRY(gw_model_open(o->model, &w->model, ctx));
    TRY(gw_fingerprint_model(o->model, o->weight_format, o->kv_format, h->fingerprint, ctx));
    TRY(open_device(w, ctx));
    TRY(gw_probe_rates(h->ops, h->device, &w->rates, ctx));
    return gw_cell_store_create_on(h->device, w->model, h->ops, &h->store, ctx);
}

static struct gw_page_model page_model_of(const struct gw_host *h)
{
    const struct gw_model_config *c = &h->model->config;
    struct gw_page_model model = {.numerics = gw_page_numerics(h->ops->profile, gw_dtype_name(h->ops->kv)),
                                  .layer_bytes =
                                      (uint32_t)(2 * gw_kv_bytes(h->ops->kv, c->head_dim, GW_BLOCK_TOKENS))};
    memcpy(model.fingerprint, h->fingerprint, sizeof model.fingerprint);
    return model;
}

/* Where this worker's pages are kept for it. */
static gw_err_t open_stores(struct worker *w, struct gw_err_ctx *ctx)
{
    const struct gw_worker_options *o = &w->options;
    struct gw_host *h = &w->host;
    const struct gw_page_seal_config seal = {.key = w->key,
                                             .key_len = w->key_len,
                                             .fingerprint = h->fingerprint,
                                             .fingerprint_len = sizeof h->fingerprint,
                                             .profile = h->ops->profile,
                                             .kv_type = gw_dtype_name(h->ops->kv)};
    const char *redis[GW_STORES_REDIS_MAX];
    for (uint32_t i = 0; i < o->redis_len; i++) redis[i] = o->redis[i];
    const struct gw_stores_config stores = {.seal = &seal,
                                            .instance = o->instance_name,
                                            .redis = redis,
                                            .redis_len = o->redis_len,
                                            .redis_password_file = o->store_password_file,
                                            .redis_ca_file = o->redis_ca_file,
                                            .redis_tls_name = o->redis_tls_name,
                                            .insecure_plaintext = o->insecure_plaintext,
                                            .tls = w->tls,
                                            .traffic = h->traffic,
                                            .far_bytes_s = o->checkpoint_far_bytes_s,
                                            .log = &w->log};
    TRY(gw_stores_create(&stores, &h->stores, ctx));
    if (o->checkpoint_share == 0) return GW_OK;
    const struct gw_checkpoint_config checkpoint = {.shelf = h->shelf,
                                                    .stores = h->stores,
                                                    .share = o->checkpoint_share,
                                                    .threads = (uint32_t)gw_device_threads(h->device),
                                                    .bytes_s = o->checkpoint_bytes_s,
                                                    .log = &w->log};
    return gw_checkpoint_create(&checkpoint, &h->checkpoint, ctx);
}

/* Memory in which others' pages are kept: nobody looks there when there is Redis. */
static gw_err_t open_store_server(struct worker *w, struct gw_err_ctx *ctx)
{
    const struct gw_worker_options *o = &w->options;
    if (o->redis_len > 0 || o->store_memory_bytes == 0) return GW_OK;
    w->store_bytes = o->store_memory_bytes > 0 ? (uint64_t)o->store_memory_bytes
                                               : w->host.memory_bytes / DEFAULT_STORE_SHARES;
    const struct gw_store_peer_server_config config = {.max_bytes = (size_t)w->store_bytes, .log = &w->log};
    return gw_store_peer_server_create(&config, &w->store_server, ctx);
}

static void serve_store(void *arg, struct gw_socket socket)
{
    gw_store_peer_server_serve(arg, socket);
}

/* Missing weights come from other workers' cells, too, and theirs from here. */
static gw_err_t open_cells(struct worker *w, struct gw_err_ctx *ctx)
{
    struct gw_host *h = &w->host;
    const struct gw_cell_loader_config loader = {.store = h->store,
                                                 .traffic = h->traffic,
                                                 .key = w->key,
                                                 .key_len = w->key_len,
                                                 .tls = w->tls,
                                                 .model = h->page_model,
                                                 .log = &w->log};
    w->giver =
        (struct gw_cell_giver){.store = h->store, .bytes_s = GW_CELL_SOURCE_SHARE * (double)w->rates.bytes_s};
    h->giver = &w->giver;
    if (gw_cell_loader_create(&loader, &h->loader) == GW_OK) return GW_OK;
    return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
}

/* Where others fetch KV pages from, and leaders have them fetched. */
static gw_err_t open_pages(struct worker *w, const char *host, struct gw_err_ctx *ctx)
{
    struct gw_host *h = &w->host;
    h->page_model = page_model_of(h);
    if (gw_shelf_create(&h->shelf) != GW_OK) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    TRY(open_stores(w, ctx));
    TRY(open_store_server(w, ctx));
    TRY(open_cells(w, ctx));
    const struct gw_fetcher_config fetcher = {.shelf = h->shelf,
                                              .traffic = h->traffic,
                                              .key = w->key,
                                              .key_len = w->key_len,
                                              .tls = w->tls,
                                              .model = h->page_model,
                                              .stores = h->stores,
                                              .checkpoint = h->checkpoint,
                                              .log = &w->log};
    if (gw_fetcher_create(&fetcher, &h->fetcher) != GW_OK)
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    const struct gw_peer_server_config server = {.host = host,
                                                 .unix_socket = true,
                                                 .key = w->key,
                                                 .key_len = w->key_len,
                                                 .tls = w->tls,
                                                 .model = h->page_model,
                                                 .source = gw_shelf_source(h->shelf),
                                                 .pull = gw_fetcher_sink(h->fetcher),
                                                 .cells = gw_cell_source(h->giver),
                                                 .store = w->store_server ? serve_store : NULL,
                                                 .store_arg = w->store_server,
                                                 .log = &w->log};
    return gw_peer_server_create(&server, &h->pages, ctx);
}

static gw_err_t open_mesh(struct worker *w, struct gw_err_ctx *ctx)
{
    const struct gw_worker_options *o = &w->options;
    char local[GW_WIRE_NAME_MAX + 1];
    struct gw_mesh_config config = {.host = o->data_host,
                                    .port = o->data_port,
                                    .key = w->key,
                                    .key_len = w->key_len,
                                    .tls = w->tls,
                                    .log = &w->log};
    if (!o->data_host[0]) {
        TRY(gw_probe_local_address(&o->controllers[0].addr, o->controllers[0].len, local, sizeof local, ctx));
        config.host = local;
    }
    TRY(gw_mesh_create(&config, &w->host.mesh, ctx));
    return open_pages(w, config.host, ctx);
}

/* Workers that may not share memory are of machines of their own. */
static void name_machine(struct worker *w)
{
    if (w->options.shared_memory)
        gw_probe_machine(w->host.machine);
    else
        gw_random_bytes(w->host.machine, sizeof w->host.machine);
}

/* For weights and KV: what is asked for, or a part of what there is. */
static gw_err_t reckon_memory(struct worker *w, struct gw_err_ctx *ctx)
{
    uint64_t own = w->device.memory_bytes, asked = (uint64_t)w->options.memory_limit_bytes;
    w->host.memory_bytes = asked;
    if (asked == 0 && own == 0) w->host.memory_bytes = default_memory_bytes(&w->options);
    if (asked == 0 && own > 0) w->host.memory_bytes = own / 10 * DEFAULT_DEVICE_TENTHS;
    if (own == 0 || asked <= own) return GW_OK;
    w->no_device = true;
    return gw_fail(ctx, GW_ERR_MEMORY, "--memory-limit %llu: %s has %llu bytes of memory left",
                   (unsigned long long)asked, w->device.about, (unsigned long long)own);
}

static gw_err_t open_host(struct worker *w, struct gw_err_ctx *ctx)
{
    const struct gw_worker_options *o = &w->options;
    struct gw_host *h = &w->host;
    TRY(choose_cores(w, ctx));
    TRY(open_model(w, ctx));
    if (gw_traffic_create(o->zone, &h->traffic) != GW_OK) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    h->model = w->model;
    TRY(reckon_memory(w, ctx));
    TRY(open_mesh(w, ctx));
    name_machine(w);
    h->kv_tokens = (uint32_t)o->kv_tokens;
    h->max_batch_tokens = (uint32_t)o->max_batch_tokens;
    h->max_sequences = (uint32_t)o->max_sequences;
    h->step_target_us = (uint64_t)(o->step_target_ms * 1e3);
    h->step_timeout_us = (int64_t)(o->step_timeout_s * 1e6);
    h->always_fetch = o->always_fetch;
    h->never_fetch = o->never_fetch;
    h->weights_from = o->weights_from;
    h->key = w->key;
    h->key_len = w->key_len;
    h->log = &w->log;
#ifdef __SANITIZE_ADDRESS__
    h->poison = true;
#endif
    const struct gw_serve_config serve = {.host = h, .signals = w->signals, .term_grace_s = o->term_grace_s};
    if (gw_serve_create(&serve, &w->serve) != GW_OK) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    return GW_OK;
}

/* What a controller of protocol 1 wants to know: the room beside all cells. */
static uint32_t kv_tokens_of_all(const struct worker *w)
{
    const struct gw_host *h = &w->host;
    const struct gw_cells *cells = &w->model->cells;
    struct gw_cell_rect all = gw_cells_all(cells);
    uint64_t weights = gw_cell_store_bytes_of(h->store, all);
    uint64_t slot = gw_page_pool_slot_bytes(&w->model->config, cells, all, h->ops->kv);
    uint64_t fit = h->memory_bytes > weights ? (h->memory_bytes - weights) / slot * GW_BLOCK_TOKENS : 0;
    uint64_t wanted = h->kv_tokens ? h->kv_tokens : (uint64_t)GW_HOST_CONTEXTS * w->model->config.context;
    return (uint32_t)(h->kv_tokens || wanted < fit ? wanted : fit);
}

static void fill_hello(const struct worker *w, struct gw_msg_hello *hello)
{
    const struct gw_host *h = &w->host;
    *hello = (struct gw_msg_hello){.pid = (uint32_t)getpid(),
                                   .vocab = w->model->config.vocab,
                                   .context = w->model->config.context,
                                   .kv_tokens = kv_tokens_of_all(w),
                                   .max_sequences = h->max_sequences,
                                   .memory_bytes = h->memory_bytes,
                                   .store_bytes = w->store_bytes,
                                   .bytes_s = w->rates.bytes_s,
                                   .flop_s = w->rates.flop_s};
    snprintf(hello->worker, sizeof hello->worker, "%s", w->options.worker_name);
    snprintf(hello->instance, sizeof hello->instance, "%s", w->options.instance_name);
    snprintf(hello->build, sizeof hello->build, "%s", GW_VERSION);
    snprintf(hello->profile, sizeof hello->profile, "%s", h->ops->profile);
    snprintf(hello->data, sizeof hello->data, "%s", gw_mesh_address(h->mesh));
    snprintf(hello->pages, sizeof hello->pages, "%s", gw_peer_server_address(h->pages));
    snprintf(hello->zone, sizeof hello->zone, "%s", w->options.zone);
    snprintf(hello->device, sizeof hello->device, "%s", w->device.about);
    memcpy(hello->machine, h->machine, sizeof hello->machine);
    memcpy(hello->fingerprint, h->fingerprint, sizeof hello->fingerprint);
    memcpy(hello->digest, w->device.digest, sizeof hello->digest);
}

static gw_err_t open_link(struct worker *w, struct gw_err_ctx *ctx)
{
    struct gw_link_config config = {.controllers_len = w->options.controllers_len,
                                    .key = w->key,
                                    .key_len = w->key_len,
                                    .tls = w->tls,
                                    .log = &w->log,
                                    .arg = w->serve,
                                    .arrived = gw_serve_arrived,
                                    .released = gw_serve_released};
    memcpy(config.controllers, w->options.controllers, sizeof config.controllers);
    fill_hello(w, &config.hello);
    gw_logf(&w->log, GW_LOG_INFO, "%s %s on %s, %llu MiB for weights and KV, ranks meet at %s; controller %s",
            GW_VERSION, config.hello.profile, config.hello.device,
            (unsigned long long)(config.hello.memory_bytes >> 20), config.hello.data, w->options.controller);
    return gw_link_create(&config, &w->link, ctx);
}

static void close_all(struct worker *w)
{
    gw_link_destroy(w->link);
    gw_serve_destroy(w->serve);
    gw_mesh_destroy(w->host.mesh);
    gw_peer_server_destroy(w->host.pages);
    gw_store_peer_server_destroy(w->store_server);
    gw_fetcher_destroy(w->host.fetcher);
    gw_checkpoint_destroy(w->host.checkpoint);
    gw_stores_destroy(w->host.stores);
    gw_shelf_destroy(w->host.shelf);
    gw_cell_loader_destroy(w->host.loader);
    gw_traffic_destroy(w->host.traffic);
    gw_cell_store_destroy(w->host.store);
    gw_worker_device_close(&w->device);
    gw_model_close(w->model);
    gw_tls_destroy(w->tls);
    gw_secret_free(w->key, w->key_len);
}

static int serve(struct worker *w, struct gw_err_ctx *ctx)
{
    int status = EXIT_WRONG;
    gw_err_t err = gw_stop_signals_start(&w->signals, ctx);
    if (err == GW_OK) err = open_host(w, ctx);
    if (err == GW_OK) err = open_link(w, ctx);
    if (err == GW_OK) status = (int)gw_serve_run(w->serve, w->link);
    if (w->no_device) status = GW_SERVE_NO_DEVICE;
    close_all(w);
    return status;
}

int main(int argc, char **argv)
{
    struct worker worker = {0}, *w = &worker;
    struct gw_err_ctx ctx = {0};
    bool help = false;
    int status = EXIT_WRONG;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("godwit-worker %s\n", GW_VERSION);
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    gw_err_t err = gw_worker_options_parse(argc, argv, &w->options, &help, &ctx);
    if (help) return 0;
    if (err == GW_OK && w->options.digest) {
        err = print_digests(&w->options, &ctx);
        status = err == GW_OK ? 0 : w->options.cuda >= 0 ? GW_SERVE_NO_DEVICE : EXIT_WRONG;
    } else if (err == GW_OK) {
        snprintf(w->log_name, sizeof w->log_name, "worker %s", w->options.worker_name);
        w->log = (struct gw_log){.fd = STDERR_FILENO, .level = w->options.log_level, .program = w->log_name};
        gw_failpoint_name(w->options.worker_name);
        status = serve(w, &ctx);
    }
    if (ctx.code != GW_OK) fprintf(stderr, "godwit-worker: %s\n", ctx.text);
    if (status == GW_SERVE_DEVICE_FAILED) _exit(status); /* a runtime's own end would wait for its device */
    return status;
}
