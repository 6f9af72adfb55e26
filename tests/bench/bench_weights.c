/* Bench: how soon a worker has its weights: from the disk, cold and warm, and from another worker over loopback. Prints
 *
 *     bench weights_warm ours=… ref=… ratio=… unit=GB/s     all threads pack what is in the page cache; ref: one thread
 *     bench weights_cold ours=… ref=… ratio=… unit=GB/s     the files were dropped from the cache; ref: reading them alone
 *     bench weights_peer ours=… ref=… ratio=… unit=GB/s     all from one peer (TCP); ref: weights_warm
 *     bench weights_auto ours=… ref=… ratio=… unit=GB/s     from wherever it is sooner; ref: the better of the two
 *
 * Bytes of packed weights by the wall clock, medians of ROUNDS loads of half of the model's cells; of the cold one there is
 * one round for each. By the wall clock; source and destination share this machine's cores.
 * usage: bench_weights MODEL [ROUNDS]     (a model of tests/bench/make_model.py) */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench_measure.h"
#include "base/clock.h"
#include "worker/cell_load.h"
#include "worker/cell_source.h"

#define ROUNDS_MAX 15
#define KEY        "a cluster key for benches, 32 by"
#define READ_BYTES (1u << 20)

struct bench {
    struct gw_model *model;
    const struct gw_ops *ops;
    const char *file;
    struct gw_cell_store *from, *to;
    struct gw_cell_giver giver;
    struct gw_peer_server *server;
    struct gw_cell_loader *loader; /* of `to` */
    struct gw_page_model pages;
    struct gw_cell_holder source;
    struct gw_cell_rect half;
    uint32_t threads;
};

static const struct gw_log silent = {.level = GW_LOG_NONE};

static void die(const struct gw_err_ctx *ctx)
{
    fprintf(stderr, "bench_weights: %s\n", ctx->text);
    exit(1);
}

static struct gw_cell_loader *loader_of(const struct bench *b, struct gw_cell_store *store)
{
    const struct gw_cell_loader_config config = {
        .store = store, .key = KEY, .key_len = strlen(KEY), .model = b->pages, .log = &silent};
    struct gw_cell_loader *loader;
    struct gw_err_ctx ctx = {.text = "out of memory"};
    if (gw_cell_loader_create(&config, &loader) != GW_OK) die(&ctx);
    return loader;
}

/* GB/s of a load into an empty store. */
static double load(struct bench *b, struct gw_cell_loader *loader, struct gw_cell_store *store,
                   uint32_t threads, bool sources, bool prefer)
{
    const struct gw_cell_wish wish = {.cells = b->half,
                                      .fence = {.term = 1, .generation = 1},
                                      .sources = &b->source,
                                      .sources_len = sources,
                                      .prefer_sources = prefer,
                                      .threads = threads};
    struct gw_cell_loaded l;
    struct gw_err_ctx ctx = {0};
    gw_cell_store_trim(store, (struct gw_cell_rect){0});
    if (gw_cell_loader_run(loader, &wish, &l, &ctx) != GW_OK) die(&ctx);
    return (double)(l.disk_bytes + l.peer_bytes) / (double)l.took_us / 1e3;
}

static double median(struct bench *b, uint32_t rounds, uint32_t threads, bool sources, bool prefer)
{
    double rates[ROUNDS_MAX];
    for (uint32_t i = 0; i < rounds; i++) rates[i] = load(b, b->loader, b->to, threads, sources, prefer);
    return bench_median(rates, rounds);
}

/* The file's pages leave the cache, unless somebody has them mapped: so the model is closed meanwhile. */
static void drop_cache(struct bench *b)
{
    int fd = open(b->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) perror(b->file);
    if (fd >= 0) close(fd);
}

static double read_cold(struct bench *b)
{
    uint8_t *bytes = malloc(READ_BYTES);
    uint64_t total = 0;
    ssize_t n;
    drop_cache(b);
    int fd = open(b->file, O_RDONLY | O_CLOEXEC);
    int64_t start_us = gw_clock_mono_us();
    while (fd >= 0 && bytes && (n = read(fd, bytes, READ_BYTES)) > 0) total += (uint64_t)n;
    double rate = (double)total / (double)(gw_clock_mono_us() - start_us) / 1e3;
    if (fd >= 0) close(fd);
    free(bytes);
    return rate;
}

static void print(const char *name, double ours, double ref)
{
    printf("bench weights_%s ours=%.3f ref=%.3f ratio=%.3f unit=GB/s\n", name, ours, ref, ours / ref);
    fflush(stdout);
}

static void open_ends(struct bench *b, const char *dir, struct gw_err_ctx *ctx)
{
    if (gw_model_open(dir, &b->model, ctx) != GW_OK ||
        gw_ops_cpu(gw_model_profile(b->model, GW_WEIGHT_FILE, GW_KV_FILE), GW_ISA_AUTO, &b->ops, ctx) !=
            GW_OK ||
        gw_cell_store_create(b->model, b->ops, &b->from, ctx) != GW_OK ||
        gw_cell_store_create(b->model, b->ops, &b->to, ctx) != GW_OK)
        die(ctx);
    b->half = gw_cells_all(&b->model->cells);
    b->half.s1 /= 2;
    b->giver = (struct gw_cell_giver){.store = b->from};
    b->pages = (struct gw_page_model){.numerics = 1, .layer_bytes = 64};
    b->loader = loader_of(b, b->to);
    b->threads = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
}

static void open_server(struct bench *b, struct gw_err_ctx *ctx)
{
    const struct gw_peer_server_config config = {.host = "127.0.0.1",
                                                 .key = KEY,
                                                 .key_len = strlen(KEY),
                                                 .model = b->pages,
                                                 .cells = gw_cell_source(&b->giver),
                                                 .log = &silent};
    if (gw_peer_server_create(&config, &b->server, ctx) != GW_OK) die(ctx);
    gw_peer_server_set_term(b->server, 1);
    snprintf(b->source.pages, sizeof b->source.pages, "%s", gw_peer_server_address(b->server));
    b->source.cells = b->half;
}

static void close_ends(struct bench *b)
{
    gw_peer_server_destroy(b->server);
    gw_cell_loader_destroy(b->loader);
    gw_cell_store_destroy(b->to);
    gw_cell_store_destroy(b->from);
    gw_model_close(b->model);
}

/* A worker that has just started: nothing of the model is mapped into any page table yet. */
static double load_cold(const char *dir, const char *file)
{
    struct bench b = {.file = file};
    struct gw_err_ctx ctx = {0};
    drop_cache(&b);
    open_ends(&b, dir, &ctx);
    double rate = load(&b, b.loader, b.to, b.threads, false, false);
    close_ends(&b);
    return rate;
}

int main(int argc, char **argv)
{
    uint32_t rounds = argc > 2 ? (uint32_t)atoi(argv[2]) : 3;
    char file[512];
    struct gw_err_ctx ctx = {0};
    if (argc < 2 || rounds == 0 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_weights MODEL [ROUNDS]\n");
        return 1;
    }
    snprintf(file, sizeof file, "%s/model.safetensors", argv[1]);
    struct bench b = {.file = file};
    double read_rate = read_cold(&b);
    print("cold", load_cold(argv[1], file), read_rate);
    open_ends(&b, argv[1], &ctx);
    open_server(&b, &ctx);
    struct gw_cell_loader *source = loader_of(&b, b.from);
    double one = 0, warm, peer;
    (void)load(&b, b.loader, b.to, b.threads, false, false); /* the page cache fills */
    one = median(&b, rounds, 1, false, false);
    warm = median(&b, rounds, b.threads, false, false);
    print("warm", warm, one);
    (void)load(&b, source, b.from, b.threads, false, false);
    peer = median(&b, rounds, 1, true, true);
    print("peer", peer, warm);
    print("auto", median(&b, rounds, b.threads, true, false), peer > warm ? peer : warm);
    gw_cell_loader_destroy(source);
    close_ends(&b);
    return 0;
}
