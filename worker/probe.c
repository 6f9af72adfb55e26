#include "worker/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/rng.h"
#include "kernels/convert.h"
#include "kernels/device_memory.h"

#define PIECE_N    128u
#define PIECE_K    2048u
#define ROWS       256u
#define READ_BYTES ((size_t)64 << 20) /* several times what a core's caches hold */
#define PIECES_MAX 256u               /* READ_BYTES of int8 */
#define FLOP_MAX   16u                /* pieces: 2 GFLOP, some milliseconds on one good core */
#define PASS_US    (4 * GW_US_PER_MS) /* long enough that waking threads does not count */
#define BUDGET_US  (30 * GW_US_PER_MS)

/* ---- rates ---- */

/* Weights in equal pieces, one row of them all: a product reads as many pieces as it is asked to. */
struct bench {
    const struct gw_ops *ops;
    struct gw_device *device;
    uint32_t pieces;
    struct gw_weight weights[PIECES_MAX];
    uint32_t y_at[PIECES_MAX];
    size_t piece_bytes, x_bytes, y_bytes;
    struct gw_memory sides;
    uint8_t *memory; /* pieces, then x [ROWS, PIECE_K] act, then y f32 */
};

static void fill(void *array, enum gw_dtype type, size_t len)
{
    for (size_t i = 0; i < len; i++) gw_f32_put(array, type, i, 0.5f + (float)(i % 7) * 0.0625f);
}

static gw_err_t map_memory(struct bench *b, struct gw_err_ctx *ctx)
{
    size_t y_one = (size_t)b->pieces * PIECE_N, y_many = (size_t)ROWS * FLOP_MAX * PIECE_N;
    b->x_bytes = (size_t)ROWS * PIECE_K * gw_dtype_bytes(b->ops->act);
    b->y_bytes = (y_one > y_many ? y_one : y_many) * sizeof(float);
    size_t bytes = b->pieces * b->piece_bytes + b->x_bytes + b->y_bytes;
    gw_err_t err = gw_memory_alloc(b->device, bytes, GW_MEMORY_MIRRORED, &b->sides, ctx);
    if (err != GW_OK) return gw_fail_prefix(ctx, err, "to measure this machine's speed");
    madvise(b->sides.host, bytes, MADV_HUGEPAGE); /* as weights are kept that serve */
    b->memory = b->sides.device;
    return GW_OK;
}

/* One piece is packed, the others are its copies: what is in them does not matter, that they are elsewhere does. */
static gw_err_t make_weights(struct bench *b, struct gw_err_ctx *ctx)
{
    uint8_t *host = b->sides.host;
    void *row = malloc(PIECE_K * gw_dtype_bytes(b->ops->act));
    if (!row) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    fill(row, b->ops->act, PIECE_K);
    b->ops->pack(host, row, b->ops->act, PIECE_N, PIECE_K, 0);
    free(row);
    for (uint32_t i = 0; i < b->pieces; i++) {
        b->weights[i] = (struct gw_weight){PIECE_N, PIECE_K, b->memory + i * b->piece_bytes};
        b->y_at[i] = i * PIECE_N;
        if (i > 0) memcpy(host + i * b->piece_bytes, host, b->piece_bytes);
    }
    fill(host + b->pieces * b->piece_bytes, b->ops->act, (size_t)ROWS * PIECE_K);
    gw_memory_put(b->device, b->memory, host, b->pieces * b->piece_bytes + b->x_bytes);
    return gw_device_finish(b->device, ctx);
}

static gw_err_t set_up(struct bench *b, struct gw_err_ctx *ctx)
{
    b->piece_bytes = (b->ops->pack_bytes(PIECE_N, PIECE_K) + 63) / 64 * 64;
    b->pieces = (uint32_t)(READ_BYTES / b->piece_bytes);
    if (b->pieces > PIECES_MAX) b->pieces = PIECES_MAX;
    if (b->pieces < FLOP_MAX) b->pieces = FLOP_MAX;
    TRY(map_memory(b, ctx));
    return make_weights(b, ctx);
}

/* Microseconds of one product, at least 1. What fails shows when all is over. */
static int64_t time_product(struct bench *b, uint32_t rows, uint32_t pieces)
{
    const uint8_t *x = b->memory + b->pieces * b->piece_bytes;
    float *y = (float *)(void *)(b->memory + b->pieces * b->piece_bytes + b->x_bytes);
    int64_t start = gw_clock_mono_us();
    b->ops->matmul(b->device, y, (size_t)pieces * PIECE_N, x, PIECE_K, b->weights, b->y_at, pieces, rows);
    (void)!gw_device_finish(b->device, NULL);
    int64_t took = gw_clock_mono_us() - start;
    return took > 0 ? took : 1;
}

/* The best of what the budget allows: whatever else the machine did only made the others slower. */
static int64_t time_best(struct bench *b, uint32_t rows, uint32_t pieces)
{
    int64_t end = gw_clock_mono_us() + BUDGET_US, best = INT64_MAX;
    do {
        int64_t took = time_product(b, rows, pieces);
        if (took < best) best = took;
    } while (gw_clock_mono_us() < end);
    return best;
}

static double measure_read(struct bench *b)
{
    int64_t us = time_best(b, 1, b->pieces);
    return (double)b->pieces * (double)b->piece_bytes * 1e6 / (double)us;
}

/* A slow device (the reference in plain C) gets a small product. */
static double measure_flop(struct bench *b)
{
    uint32_t pieces = 1;
    while (pieces < FLOP_MAX && time_product(b, ROWS, pieces) < PASS_US) pieces *= 2;
    int64_t us = time_best(b, ROWS, pieces);
    return 2.0 * ROWS * PIECE_N * PIECE_K * pieces * 1e6 / (double)us;
}

/* The nearest (as a ratio) of 1, 1.5, 2, 3, 5, 7 × a power of ten. */
static uint64_t round_rate(double rate)
{
    static const double steps[] = {1, 1.5, 2, 3, 5, 7, 10};
    double unit = 1;
    size_t i = 0;
    while (rate >= unit * 10) unit *= 10;
    /* up while rate is above the geometric mean of a step and the next */
    while (i + 1 < sizeof steps / sizeof *steps && rate * rate > unit * unit * steps[i] * steps[i + 1]) i++;
    return (uint64_t)(unit * steps[i]);
}

gw_err_t gw_probe_rates(const struct gw_ops *ops, struct gw_device *device, struct gw_probe_rates *out,
                        struct gw_err_ctx *ctx)
{
    struct bench *b = calloc(1, sizeof *b);
    if (!b) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    b->ops = ops;
    b->device = device;
    gw_err_t err = set_up(b, ctx);
    if (err == GW_OK) {
        out->bytes_s = round_rate(measure_read(b));
        out->flop_s = round_rate(measure_flop(b));
    }
    if (err == GW_OK) err = gw_device_finish(device, ctx);
    gw_memory_free(&b->sides);
    free(b);
    return err;
}

/* ---- machine ---- */

/* What cannot be found out is random: unequal to everyone's is slow, equal by mistake would be wrong. */
static void absorb_unknown(struct gw_sha256 *sha)
{
    uint8_t noise[32];
    gw_random_bytes(noise, sizeof noise);
    gw_sha256_update(sha, noise, sizeof noise);
}

static void absorb_boot(struct gw_sha256 *sha)
{
    char id[64];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, id, sizeof id) : -1;
    if (fd >= 0) close(fd);
    if (n > 0)
        gw_sha256_update(sha, id, (size_t)n);
    else
        absorb_unknown(sha);
}

static void absorb_file(struct gw_sha256 *sha, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        absorb_unknown(sha);
        return;
    }
    const uint64_t id[2] = {st.st_dev, st.st_ino};
    gw_sha256_update(sha, id, sizeof id);
}

void gw_probe_machine(uint8_t out[GW_MACHINE_BYTES])
{
    uint8_t digest[GW_SHA256_BYTES];
    const uint64_t user = geteuid();
    struct gw_sha256 *sha = gw_sha256_create();
    absorb_boot(sha);
    gw_sha256_update(sha, &user, sizeof user);
    absorb_file(sha, "/dev/shm");
    absorb_file(sha, "/proc/self/ns/pid");
    absorb_file(sha, "/proc/self/ns/user");
    gw_sha256_finish(sha, digest);
    memcpy(out, digest, GW_MACHINE_BYTES);
}

/* ---- address ---- */

gw_err_t gw_probe_local_address(const struct sockaddr_storage *peer, socklen_t peer_len, char *out,
                                size_t out_bytes, struct gw_err_ctx *ctx)
{
    struct sockaddr_storage local;
    socklen_t len = sizeof local;
    char host[NI_MAXHOST];
    int fd = socket(peer->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool known = fd >= 0 && connect(fd, (const struct sockaddr *)peer, peer_len) == 0 &&
                 getsockname(fd, (struct sockaddr *)&local, &len) == 0;
    int error = errno;
    if (fd >= 0) close(fd);
    if (!known)
        return gw_fail(ctx, GW_ERR_IO, "no way to the controller from here: %s", strerrordesc_np(error));
    if (getnameinfo((struct sockaddr *)&local, len, host, sizeof host, NULL, 0, NI_NUMERICHOST) != 0)
        return gw_fail(ctx, GW_ERR_IO, "this machine's address has no text");
    if (strlen(host) >= out_bytes) return gw_fail(ctx, GW_ERR_LIMIT, "the address %s is too long", host);
    memcpy(out, host, strlen(host) + 1);
    return GW_OK;
}
