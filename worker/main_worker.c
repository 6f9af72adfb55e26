/* godwit-worker: one process per device; it dials a controller, says what it can compute, and computes. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/secret.h"
#include "kernels/digest.h"
#include "migrate/fingerprint.h"
#include "worker/options.h"
#include "worker/prove.h"
#include "worker/serve.h"

#define DEFAULT_CONTEXTS      32 /* sequences of full length that the default pool holds */
#define DEFAULT_MEMORY_SHARES 8  /* and it takes at most 1/8 of the memory: four workers leave half */
#define EXIT_WRONG            1

/* All that lives as long as the process. */
struct worker {
    struct gw_worker_options options;
    char log_name[16 + GW_WIRE_NAME_MAX];
    struct gw_log log;
    const struct gw_stop_signals *signals;
    char *key;
    size_t key_len;
    uint8_t fingerprint[GW_FINGERPRINT_BYTES];
    struct gw_model *model;
    struct gw_serve *serve;
    struct gw_engine *engine;
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

/* --digest: of the profile asked for, else of all. */
static gw_err_t print_digests(const struct gw_worker_options *o, struct gw_err_ctx *ctx)
{
    if (o->profile) return print_digest(o->profile, o, ctx);
    TRY(print_digest("cpu-bf16dot-1", o, ctx));
    return print_digest("cpu-f32-1", o, ctx);
}

static uint64_t default_pool_bytes(void)
{
    struct sysinfo info;
    if (sysinfo(&info) != 0) return 0;
    return (uint64_t)info.totalram * info.mem_unit / DEFAULT_MEMORY_SHARES;
}

static uint32_t kv_tokens(const struct worker *w)
{
    const struct gw_worker_options *o = &w->options;
    if (o->kv_tokens > 0) return (uint32_t)o->kv_tokens;
    if (o->memory_limit_bytes > 0)
        return gw_engine_kv_tokens_in(w->model, o->profile, (uint64_t)o->memory_limit_bytes);
    uint64_t wanted = (uint64_t)DEFAULT_CONTEXTS * w->model->config.context;
    uint32_t fit = gw_engine_kv_tokens_in(w->model, o->profile, default_pool_bytes());
    return wanted < fit ? (uint32_t)wanted : fit;
}

static gw_err_t open_engine(struct worker *w, struct gw_err_ctx *ctx)
{
    const struct gw_worker_options *o = &w->options;
    enum gw_isa isa;
    const struct gw_serve_config serve = {
        .signals = w->signals, .term_grace_s = o->term_grace_s, .log = &w->log};
    TRY(gw_secret_read(o->cluster_key_file, &w->key, &w->key_len, ctx));
    TRY(gw_model_open(o->model, &w->model, ctx));
    TRY(gw_fingerprint_dir(o->model, w->fingerprint, ctx));
    TRY(gw_prove_isa(o->profile ? o->profile : gw_model_profile(w->model), o->isa, &w->log, &isa, ctx));
    if (gw_serve_create(&serve, &w->serve) != GW_OK) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    struct gw_engine_config config = {.model = w->model,
                                      .profile = o->profile,
                                      .isa = isa,
                                      .threads = (int)o->threads,
                                      .pin = o->pin,
                                      .kv_tokens = kv_tokens(w),
                                      .max_batch_tokens = (uint32_t)o->max_batch_tokens,
                                      .max_sequences = (uint32_t)o->max_sequences,
                                      .key = w->key,
                                      .key_len = w->key_len,
                                      .sink = gw_serve_sink(w->serve)};
#ifdef __SANITIZE_ADDRESS__
    config.poison = true;
#endif
    if (config.kv_tokens == 0)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "--memory-limit holds not one block of KV pages, or --profile %s is unknown",
                       o->profile ? o->profile : "(default)");
    memcpy(config.fingerprint, w->fingerprint, sizeof config.fingerprint);
    return gw_engine_create(&config, &w->engine, ctx);
}

static gw_err_t fill_hello(struct worker *w, struct gw_msg_hello *hello, struct gw_err_ctx *ctx)
{
    const struct gw_ops *ops = gw_engine_ops(w->engine);
    *hello = (struct gw_msg_hello){.pid = (uint32_t)getpid(),
                                   .vocab = w->model->config.vocab,
                                   .context = gw_engine_context(w->engine),
                                   .kv_tokens = gw_engine_kv_tokens(w->engine),
                                   .max_sequences = (uint32_t)w->options.max_sequences};
    snprintf(hello->worker, sizeof hello->worker, "%s", w->options.worker_name);
    snprintf(hello->instance, sizeof hello->instance, "%s", w->options.instance_name);
    snprintf(hello->build, sizeof hello->build, "%s", GW_VERSION);
    snprintf(hello->profile, sizeof hello->profile, "%s", ops->profile);
    memcpy(hello->fingerprint, w->fingerprint, sizeof hello->fingerprint);
    if (gw_ops_digest(ops, gw_engine_device(w->engine), hello->digest) != GW_OK)
        return gw_fail(ctx, GW_ERR_MEMORY, "no memory for the digest");
    return GW_OK;
}

static gw_err_t open_link(struct worker *w, struct gw_err_ctx *ctx)
{
    struct gw_link_config config = {.controller = w->options.controller_addr,
                                    .controller_len = w->options.controller_len,
                                    .key = w->key,
                                    .key_len = w->key_len,
                                    .log = &w->log};
    TRY(fill_hello(w, &config.hello, ctx));
    gw_logf(&w->log, GW_LOG_INFO, "%s %s on %s, %d threads, room for %u KV tokens, context %u; controller %s",
            GW_VERSION, config.hello.profile, gw_engine_ops(w->engine)->name,
            gw_device_threads(gw_engine_device(w->engine)), config.hello.kv_tokens, config.hello.context,
            w->options.controller);
    return gw_link_create(&config, &w->link, ctx);
}

static void close_all(struct worker *w)
{
    gw_link_destroy(w->link);
    gw_engine_destroy(w->engine);
    gw_serve_destroy(w->serve);
    gw_model_close(w->model);
    gw_secret_free(w->key, w->key_len);
}

static int serve(struct worker *w, struct gw_err_ctx *ctx)
{
    int status = EXIT_WRONG;
    gw_err_t err = gw_stop_signals_start(&w->signals, ctx);
    if (err == GW_OK) err = open_engine(w, ctx);
    if (err == GW_OK) err = open_link(w, ctx);
    if (err == GW_OK) status = (int)gw_serve_run(w->serve, w->engine, w->link);
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
        status = err == GW_OK ? 0 : EXIT_WRONG;
    } else if (err == GW_OK) {
        snprintf(w->log_name, sizeof w->log_name, "worker %s", w->options.worker_name);
        w->log = (struct gw_log){.fd = STDERR_FILENO, .level = w->options.log_level, .program = w->log_name};
        status = serve(w, &ctx);
    }
    if (ctx.code != GW_OK) fprintf(stderr, "godwit-worker: %s\n", ctx.text);
    return status;
}
