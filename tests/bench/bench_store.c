/* The Redis store against hiredis' own pipelining: `bench <name> ours=<x> ref=<y> ratio=<x/y> unit=GB/s`.
 *
 *     store_redis_{put,get}_plain    pages of 1 MiB, not sealed. ref: hiredis' blocking context pipelining the same commands
 *     store_redis_{put,get}_sealed   the same with AES-256-GCM. ref: hiredis, sealing and opening on the same thread
 *     store_redis_{put,get}_string   ref: SET and GET of strings (no field, no expiry, no transaction)
 *
 * One redis-server on a unix socket, one connection each, in turn; the best of ROUNDS. Wants two idle cores: ours is one
 * thread beside the server, and so is the reference. */
#include <hiredis/hiredis.h>
#include <pthread.h>

#include "base/hash.h"
#include "migrate/store_redis.h"
#include "tests/lib/redis_server.h"

#define PAGE_BYTES ((size_t)1 << 20)
#define PAGES      64
#define ROUNDS     7
#define WINDOW     16 /* commands of the reference on their way: a pipeline this deep was the fastest */
#define CALL_US    (60 * GW_US_PER_S)

static const char key[] = "a cluster key for benchmarks";
static const uint8_t fingerprint[16] = {1, 2, 3};

struct bench {
    struct redis_server server;
    struct gw_page_seal_config seal;
    struct gw_page_sealer *sealer;
    redisContext *raw;
    uint8_t *pages, *back, *sealed;
    pthread_mutex_t lock;
    pthread_cond_t over;
    int left;
};

static void need(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "bench_store: %s\n", what);
    exit(1);
}

static struct gw_block_name name_of(int i)
{
    struct gw_block_name name = {{(uint8_t)i, (uint8_t)(i >> 8), 7}};
    return name;
}

/* ---- ours ---- */

static void on_done(void *arg, enum gw_store_outcome outcome, const bool *got, uint32_t got_len)
{
    struct bench *b = arg;
    need(outcome == GW_STORE_OK && (!got || (got_len == 1 && got[0])), "a call was not OK");
    pthread_mutex_lock(&b->lock);
    if (--b->left == 0) pthread_cond_signal(&b->over);
    pthread_mutex_unlock(&b->lock);
}

static double ours(struct bench *b, struct gw_store *store, bool put)
{
    int64_t start_us = gw_clock_mono_us();
    b->left = PAGES;
    for (int i = 0; i < PAGES; i++) {
        struct gw_block_name name = name_of(i);
        struct gw_store_page page = {.len = PAGE_BYTES,
                                     .bytes = (put ? b->pages : b->back) + (size_t)i * PAGE_BYTES};
        const struct gw_store_then then = {start_us + CALL_US, on_done, b};
        gw_err_t err =
            put ? gw_store_put(store, &name, &page, 1, &then) : gw_store_get(store, &name, &page, 1, &then);
        need(err == GW_OK, "a call was not taken");
    }
    pthread_mutex_lock(&b->lock);
    while (b->left > 0) pthread_cond_wait(&b->over, &b->lock);
    pthread_mutex_unlock(&b->lock);
    return (double)(PAGES * PAGE_BYTES) / (double)(gw_clock_mono_us() - start_us) / 1e3;
}

/* ---- the reference ---- */

struct shape {
    bool put, sealed, string;
};

static void append_words(struct bench *b, int words, const char **args, const size_t *lens)
{
    need(redisAppendCommandArgv(b->raw, words, args, lens) == REDIS_OK, "append");
}

static void append(struct bench *b, struct shape s, int i)
{
    struct gw_block_name name = name_of(i);
    char hex[2 * GW_BLOCK_NAME_BYTES + 16] = "bench:";
    hex[0] = s.string ? 'S' : 'H'; /* keys of their own */
    const uint8_t *value = b->pages + (size_t)i * PAGE_BYTES;
    size_t len = PAGE_BYTES + (s.sealed ? GW_PAGE_SEAL_BYTES : 0);
    gw_hex(name.bytes, sizeof name.bytes, hex + 6);
    if (s.put && s.sealed) {
        need(gw_page_seal(b->sealer, &name, (struct gw_page_id){0}, value, PAGE_BYTES, b->sealed) == GW_OK,
             "seal");
        value = b->sealed;
    }
    if (s.string) {
        append_words(b, s.put ? 3 : 2, (const char *[]){s.put ? "SET" : "GET", hex, (const char *)value},
                     (size_t[]){3, strlen(hex), len});
    } else if (s.put) {
        append_words(b, 1, (const char *[]){"MULTI"}, (size_t[]){5});
        append_words(b, 4, (const char *[]){"HSET", hex, "0.0", (const char *)value},
                     (size_t[]){4, strlen(hex), 3, len});
        append_words(b, 3, (const char *[]){"EXPIRE", hex, "3600"}, (size_t[]){6, strlen(hex), 4});
        append_words(b, 1, (const char *[]){"EXEC"}, (size_t[]){4});
    } else {
        append_words(b, 3, (const char *[]){"HMGET", hex, "0.0"}, (size_t[]){5, strlen(hex), 3});
    }
}

static void take_value(struct bench *b, struct shape s, int i, const redisReply *reply)
{
    struct gw_block_name name = name_of(i);
    uint8_t *to = b->back + (size_t)i * PAGE_BYTES;
    const redisReply *value = s.string ? reply : reply->element[0];
    if (s.sealed)
        need(gw_page_open(b->sealer, &name, (struct gw_page_id){0}, (const uint8_t *)value->str, value->len,
                          to, PAGE_BYTES) == GW_OK,
             "open");
    else
        memcpy(to, value->str, PAGE_BYTES);
}

static void take(struct bench *b, struct shape s, int i)
{
    int replies = s.put && !s.string ? 4 : 1;
    for (int k = 0; k < replies; k++) {
        redisReply *reply = NULL;
        need(redisGetReply(b->raw, (void **)&reply) == REDIS_OK && reply->type != REDIS_REPLY_ERROR,
             "a reply");
        if (!s.put) take_value(b, s, i, reply);
        freeReplyObject(reply);
    }
}

static double raw(struct bench *b, struct shape s)
{
    int64_t start_us = gw_clock_mono_us();
    for (int sent = 0, done = 0; done < PAGES;) {
        while (sent < PAGES && sent - done < WINDOW) append(b, s, sent++);
        take(b, s, done++);
    }
    return (double)(PAGES * PAGE_BYTES) / (double)(gw_clock_mono_us() - start_us) / 1e3;
}

/* ---- in turn ---- */

static void report(const char *name, const char *kind, double mine, double theirs)
{
    printf("bench store_redis_%s_%s ours=%.2f ref=%.2f ratio=%.2f unit=GB/s\n", name, kind, mine, theirs,
           mine / theirs);
    fflush(stdout);
}

static void compare(struct bench *b, bool sealed)
{
    const char *servers[] = {b->server.socket};
    struct gw_store_redis_config config = {.servers = servers, .servers_len = 1};
    struct gw_store *store = NULL;
    double best[2][3] = {{0}};
    config.common.seal = sealed ? &b->seal : NULL;
    need(gw_store_redis_create(&config, &store, NULL) == GW_OK, "create");
    for (int round = 0; round < ROUNDS; round++)
        for (int get = 0; get < 2; get++)
            for (int who = 0; who < 3; who++) {
                struct shape s = {.put = !get, .sealed = sealed, .string = who == 2};
                double v = who == 0 ? ours(b, store, !get) : raw(b, s);
                if (v > best[get][who]) best[get][who] = v;
                need(s.put || memcmp(b->pages, b->back, PAGES * PAGE_BYTES) == 0, "other bytes came back");
                memset(b->back, 0, PAGES * PAGE_BYTES);
            }
    for (int get = 0; get < 2; get++) {
        report(get ? "get" : "put", sealed ? "sealed" : "plain", best[get][0], best[get][1]);
        report(get ? "get" : "put", sealed ? "sealed_string" : "string", best[get][0], best[get][2]);
    }
    gw_store_destroy(store);
}

int main(void)
{
    struct bench b = {.seal = {key, sizeof key, fingerprint, sizeof fingerprint, "bench", "bf16"},
                      .pages = malloc(PAGES * PAGE_BYTES),
                      .back = calloc(PAGES, PAGE_BYTES),
                      .sealed = malloc(PAGE_BYTES + GW_PAGE_SEAL_BYTES)};
    if (!redis_is_installed()) {
        printf("# no redis-server: the store is not measured\n");
        return 0;
    }
    need(b.pages && b.back && b.sealed, "memory");
    for (size_t i = 0; i < PAGES * PAGE_BYTES; i += 8) {
        uint64_t x = gw_mix64(i);
        memcpy(b.pages + i, &x, 8);
    }
    pthread_mutex_init(&b.lock, NULL);
    pthread_cond_init(&b.over, NULL);
    redis_open(&b.server, NULL);
    b.raw = redisConnectUnix(b.server.socket);
    need(b.raw && !b.raw->err, "connect");
    need(gw_page_sealer_create(&b.seal, &b.sealer, NULL) == GW_OK, "sealer");
    compare(&b, false);
    compare(&b, true);
    redisFree(b.raw);
    gw_page_sealer_destroy(b.sealer);
    redis_close(&b.server);
    free(b.pages);
    free(b.back);
    free(b.sealed);
    return 0;
}
