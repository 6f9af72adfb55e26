/* Collectives between processes: `bench <name> ours=<x> ref=<y> ratio=<x/y> unit=us`.
 *
 *     coll_<transport>_<bytes>      one sum of 2 ranks with 4 shares each (median). ref: half a round trip of the same
 *                                   bytes between the same processes (blocking TCP; spinning on shared memory), in turn
 *                                   with it. transport: shm, tcp, tls (tcp with TLS 1.3; ref: without)
 *     coll_layers_<transport>_4     a made-up layer: 2 ms of arithmetic shared out among the ranks, then a sum of 16 KiB, for
 *                                   4 ranks. ref: the same layer with 2 ranks: what cores that are oversubscribed cost
 *
 * By the wall clock: wants as many idle cores as ranks, but for the last, which wants two. A run takes some seconds. */
#include <immintrin.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/bench/bench_measure.h"
#include "tests/lib/coll_fixture.h"

#define SHARES      8
#define ROUNDS      60
#define BATCH       20 /* of one kind before the other's turn */
#define LAYERS      150
#define LAYER_US    2000.0
#define LAYER_ELEMS 4096u
#define ELEMS_MAX   ((size_t)1 << 20)

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static double quantile(double *values, size_t len, double q)
{
    qsort(values, len, sizeof *values, bench_by_value);
    return values[(size_t)((double)(len - 1) * q)];
}

/* What two processes ping-pong through when the ranks share memory. */
struct board {
    _Alignas(128) _Atomic uint32_t turn[2];
    _Alignas(128) uint8_t bytes[2][ELEMS_MAX * sizeof(float)];
};

struct rank {
    uint32_t self, ranks;
    bool shm, tls;
    struct gw_coll *coll;
    struct gw_device *dev;
    struct board *board;
    int pipe; /* TCP to the other of two */
    uint32_t turns;
    float *residual;
};

static void need(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "bench_coll: %s\n", what);
    exit(1);
}

static void sum(struct rank *r, size_t elems)
{
    struct gw_err_ctx ctx = {0};
    (void)gw_coll_partials(r->coll, elems);
    need(gw_coll_tree_add(r->coll, r->dev, r->residual, elems, &ctx) == GW_OK, ctx.text);
}

static void write_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        need(n > 0, "write");
        bytes += n, len -= (size_t)n;
    }
}

static void read_all(int fd, uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = read(fd, bytes, len);
        need(n > 0, "read");
        bytes += n, len -= (size_t)n;
    }
}

static void say(struct rank *r, size_t bytes)
{
    if (!r->shm) {
        write_all(r->pipe, r->board->bytes[r->self], bytes);
        return;
    }
    memcpy(r->board->bytes[r->self], r->residual, bytes);
    atomic_fetch_add(&r->board->turn[r->self], 1);
}

static void hear(struct rank *r, size_t bytes)
{
    if (!r->shm) {
        read_all(r->pipe, (uint8_t *)r->residual, bytes);
        return;
    }
    r->turns++;
    while (atomic_load(&r->board->turn[1 - r->self]) < r->turns) _mm_pause();
    memcpy(r->residual, r->board->bytes[1 - r->self], bytes);
}

static void ping_pong(struct rank *r, size_t bytes)
{
    if (r->self == 0) say(r, bytes);
    hear(r, bytes);
    if (r->self == 1) say(r, bytes);
}

static void bench_sum(struct rank *r, size_t elems)
{
    static double ours[ROUNDS * BATCH], ref[ROUNDS * BATCH];
    size_t len = 0;
    for (int round = 0; round < ROUNDS; round++, len += BATCH) {
        sum(r, elems); /* wakes the other up */
        for (int i = 0; i < BATCH; i++) {
            double start = now_us();
            sum(r, elems);
            ours[len + i] = now_us() - start;
        }
        ping_pong(r, elems * sizeof(float));
        for (int i = 0; i < BATCH; i++) {
            double start = now_us();
            ping_pong(r, elems * sizeof(float));
            ref[len + i] = (now_us() - start) / 2;
        }
    }
    if (r->self != 0) return;
    double mine = quantile(ours, len, 0.5), plain = quantile(ref, len, 0.5);
    printf("bench coll_%s_%zu ours=%.1f ref=%.1f ratio=%.2f unit=us\n",
           r->tls ? "tls" : gw_coll_transport(r->coll), elems * sizeof(float), mine, plain, mine / plain);
    printf("# 10%% to 90%%: ours %.1f to %.1f, ref %.1f to %.1f\n", quantile(ours, len, 0.1),
           quantile(ours, len, 0.9), quantile(ref, len, 0.1), quantile(ref, len, 0.9));
    fflush(stdout);
}

static double work(uint64_t loops)
{
    volatile double x = 1;
    for (uint64_t i = 0; i < loops; i++) x = x * 0.999 + 0.001;
    return x;
}

static uint64_t loops_per_ms(void)
{
    double best = 1e9;
    for (int i = 0; i < 20; i++) {
        double start = now_us();
        work(100000);
        double us = now_us() - start;
        best = us < best ? us : best;
    }
    return (uint64_t)(100000 * 1000.0 / best);
}

struct result {
    double layer_us;
};

static void bench_layers(struct rank *r, uint64_t loops_ms, struct result *result)
{
    double us[LAYERS];
    uint64_t loops = (uint64_t)((double)loops_ms * LAYER_US * 1e-3 / r->ranks);
    for (int i = 0; i < LAYERS; i++) {
        double start = now_us();
        work(loops);
        sum(r, LAYER_ELEMS);
        us[i] = now_us() - start;
    }
    if (r->self == 0) result->layer_us = quantile(us, LAYERS, 0.5);
}

struct task {
    uint32_t ranks;
    bool shm, tls, layers;
    uint64_t loops_ms;
};

static void run_rank(const struct task *task, struct rank *r, struct coll_mesh *mesh, struct result *result)
{
    static const size_t sizes[] = {1024, 4096, 16384, 65536, ELEMS_MAX};
    uint16_t cuts[COLL_RANKS + 1];
    struct gw_err_ctx ctx = {0};
    for (uint32_t i = 0; i <= task->ranks; i++) cuts[i] = (uint16_t)(SHARES * i / task->ranks);
    struct gw_coll_config config = coll_config(mesh, r->self, task->ranks, SHARES, cuts, ELEMS_MAX);
    config.try_shm = task->shm;
    coll_mesh_keep(mesh, r->self);
    gw_device_enter_thread();
    need(gw_device_cpu_create(1, false, &r->dev, &ctx) == GW_OK, ctx.text);
    need(gw_coll_create(&config, &r->coll, &ctx) == GW_OK, ctx.text);
    r->residual = calloc(ELEMS_MAX, sizeof(float));
    memset(gw_coll_partials(r->coll, ELEMS_MAX), 0, SHARES / task->ranks * ELEMS_MAX * sizeof(float));
    if (task->layers)
        bench_layers(r, task->loops_ms, result);
    else
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) bench_sum(r, sizes[i]);
    gw_coll_destroy(r->coll);
    gw_device_destroy(r->dev);
    free(r->residual);
}

/* Forks a process per rank but the first, which is this one. */
static struct result run_task(const struct task *task, struct board *board)
{
    struct coll_mesh mesh;
    struct result result = {0};
    int pipe[2];
    pid_t pids[COLL_RANKS];
    memset(board->turn, 0, sizeof board->turn);
    need(coll_mesh_open(&mesh, task->ranks, true) == 0 && coll_pair(true, pipe) == 0, "sockets");
    /* Both ends shake hands here; after the fork each process goes on with its own. */
    const struct gw_tls_config config = {.key = "a key", .key_len = 5, .everywhere = true};
    struct gw_tls *tls = NULL;
    need(gw_tls_create(&config, &tls, NULL) == GW_OK, "TLS");
    if (task->tls) need(coll_mesh_secure(&mesh, task->ranks, tls) == 0, "no handshake");
    struct rank r = {
        .ranks = task->ranks, .shm = task->shm, .tls = task->tls, .board = board, .pipe = pipe[0]};
    for (uint32_t i = 1; i < task->ranks; i++) {
        pids[i] = fork();
        need(pids[i] >= 0, "fork");
        if (pids[i] > 0) continue;
        r.self = i;
        r.pipe = pipe[1];
        run_rank(task, &r, &mesh, &result);
        _exit(0);
    }
    run_rank(task, &r, &mesh, &result);
    for (uint32_t i = 1; i < task->ranks; i++) {
        int status;
        need(waitpid(pids[i], &status, 0) == pids[i] && status == 0, "a rank failed");
    }
    close(pipe[0]);
    close(pipe[1]);
    gw_tls_destroy(tls);
    return result;
}

int main(void)
{
    struct board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(board != MAP_FAILED, "no memory");
    uint64_t loops_ms = loops_per_ms();
    for (int shm = 1; shm >= 0; shm--) {
        run_task(&(struct task){.ranks = 2, .shm = shm}, board);
        struct task layers = {.ranks = 4, .shm = shm, .layers = true, .loops_ms = loops_ms};
        struct task two = layers;
        two.ranks = 2;
        double ours = 1e9, ref = 1e9; /* the best of three, in turn */
        for (int i = 0; i < 3; i++) {
            double us = run_task(&layers, board).layer_us;
            ours = us < ours ? us : ours;
            us = run_task(&two, board).layer_us;
            ref = us < ref ? us : ref;
        }
        printf("bench coll_layers_%s_4 ours=%.0f ref=%.0f ratio=%.2f unit=us\n", shm ? "shm" : "tcp", ours,
               ref, ours / ref);
    }
    run_task(&(struct task){.ranks = 2, .tls = true}, board);
    return 0;
}
