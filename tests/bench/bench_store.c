/* The Redis store against hiredis' own pipelining: `bench <name> ours=<x> ref=<y> ratio=<x/y> unit=GB/s`.
 *
 *     store_redis_{put,get}_plain    pages of 1 MiB, not sealed. ref: hiredis' blocking context pipelining the same commands
 *     store_redis_{put,get}_sealed   the same with AES-256-GCM. ref: hiredis, sealing and opening on the same thread
 *     store_redis_{put,get}_string   ref: SET and GET of strings (no field, no expiry, no transaction)
 *     store_peer_{put,get}_sealed    memory of a peer, over a pair of unix sockets. ref: our Redis store in the same run
 *
 * One redis-server on a unix socket, one connection each, in turn; the best of ROUNDS. Servers have one core, all others the
 * other one: left to itself, the scheduler now and then puts both ends of a socket on one core for a whole run, and either
 * contender is half as fast. Wants two idle cores: ours is one thread beside the server, and so is the reference. */
#include <hiredis/hiredis.h>
#include <pthread.h>
#include <sched.h>

#include "base/hash.h"
#include "migrate/store_peer.h"
#include "migrate/store_peer_server.h"
#include "migrate/store_redis.h"
#include "tests/lib/redis_server.h"

#define PAGE_BYTES ((size_t)1 << 20)
#define PAGES      64
#define ROUNDS     15
#define WINDOW     16 /* commands of the reference on their way: a pipeline this deep was the fastest */
#define CALL_US    (60 * GW_US_PER_S)

enum { SERVERS_CORE, OUR_CORE };

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

/* What this thread starts from now on runs on the nth core that we may use. */
static void use_core(int n)
{
    static cpu_set_t allowed; /* as it was at first */
    cpu_set_t one;
    if (CPU_COUNT(&allowed) == 0) need(sched_getaffinity(0, sizeof allowed, &allowed) == 0, "cores");
    if (CPU_COUNT(&allowed) < 2) return;
    int cpu = 0;
    while (!CPU_ISSET(cpu, &allowed) || n-- > 0) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    need(sched_setaffinity(0, sizeof one, &one) == 0, "cores");
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

enum { OURS, RAW, STRINGS, PEER, CONTENDERS };

struct contest {
    struct bench *bench;
    bool sealed;
    struct gw_store *redis, *peer;
    struct gw_store_peer_server *buddy;
    double best[2][CONTENDERS]; /* put, get */
};

static void report(const char *store, bool get, const char *kind, double mine, double theirs)
{
    printf("bench store_%s_%s_%s ours=%.2f ref=%.2f ratio=%.2f unit=GB/s\n", store, get ? "get" : "put", kind,
           mine, theirs, mine / theirs);
    fflush(stdout);
}

static void open_stores(struct contest *c)
{
    const struct gw_page_seal_config *seal = c->sealed ? &c->bench->seal : NULL;
    const char *servers[] = {c->bench->server.socket}, *peers[] = {"buddy"};
    struct gw_store_redis_config redis = {.common.seal = seal, .servers = servers, .servers_len = 1};
    struct gw_store_peer_config peer = {.common.seal = seal, .peers = peers, .peers_len = 1};
    struct gw_store_peer_server_config buddy = {.max_bytes = 2 * PAGES * PAGE_BYTES};
    struct gw_store_stats stats = {0};
    int ends[2];
    need(gw_store_redis_create(&redis, &c->redis, NULL) == GW_OK, "the Redis store");
    need(gw_store_peer_create(&peer, &c->peer, NULL) == GW_OK, "the peer store");
    use_core(SERVERS_CORE);
    need(gw_store_peer_server_create(&buddy, &c->buddy, NULL) == GW_OK, "the buddy");
    use_core(OUR_CORE);
    need(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "sockets");
    gw_store_peer_server_serve(c->buddy, gw_socket_plain(ends[0]));
    gw_store_peer_attach(c->peer, 0, gw_socket_plain(ends[1]));
    while (stats.servers_up == 0) gw_store_stats(c->peer, &stats);
}

static double turn(struct contest *c, bool put, int who)
{
    struct shape s = {.put = put, .sealed = c->sealed, .string = who == STRINGS};
    if (who == OURS) return ours(c->bench, c->redis, put);
    if (who == PEER) return ours(c->bench, c->peer, put);
    return raw(c->bench, s);
}

static void compare(struct bench *b, bool sealed)
{
    struct contest c = {.bench = b, .sealed = sealed};
    open_stores(&c);
    for (int i = 0; i < ROUNDS * 2 * CONTENDERS; i++) {
        int get = i / CONTENDERS % 2, who = i % CONTENDERS;
        memset(b->back, 0, PAGES * PAGE_BYTES);
        double v = turn(&c, !get, who);
        need(!get || memcmp(b->pages, b->back, PAGES * PAGE_BYTES) == 0, "other bytes came back");
        if (v > c.best[get][who]) c.best[get][who] = v;
    }
    for (int get = 0; get < 2; get++) {
        const double *best = c.best[get];
        report("redis", get, sealed ? "sealed" : "plain", best[OURS], best[RAW]);
        report("redis", get, sealed ? "sealed_string" : "string", best[OURS], best[STRINGS]);
        report("peer", get, sealed ? "sealed" : "plain", best[PEER], best[OURS]);
    }
    gw_store_destroy(c.redis);
    gw_store_destroy(c.peer);
    gw_store_peer_server_destroy(c.buddy);
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
    use_core(SERVERS_CORE);
    redis_open(&b.server, NULL);
    use_core(OUR_CORE);
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
