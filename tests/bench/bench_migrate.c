/* Page transfers: `bench <name> ours=<x> ref=<y> ratio=<x/y> unit=<u>`.
 *
 *     peer_tcp, peer_unix    256 MiB of pages of 32 KiB from a server in another process, two streams (four where there are as
 *                            many cores). ref: the same bytes of the same memory by plain senders and receivers over TCP,
 *                            pieces of 1 MiB, as many connections or half as many, whichever is faster. Gate: peer_tcp >= 0.90
 *     peer_tls               the same pages from the same server over TCP with TLS 1.3 (AES-128-GCM); ref: the same plain one
 *     reslice_tp4_tp2pp2     four servers that hold two KV heads of all layers each, four fetches of four heads of half of the
 *                            layers each, at once. ref: as above, two or four connections. Gate: >= 0.70
 *     ..._cpu                processor time of both processes for the same, of the turn that took least (lower is better):
 *                            where others use the cores, too, this is what can be compared
 *     fetch_block            one block of 2 MiB over a connection that is open: what a cutover waits for (unit us, lower is
 *                            better). ref: a byte to and fro, with the same bytes behind the second one
 *
 * The best of turns that alternate, as many of ours as of the reference. By the wall clock: wants two idle cores. A run takes
 * some ten seconds.
 *
 * Where the time goes (perf, TCP, two cores): half of it is the kernel's copies, an eighth the checksum, which reads from the
 * L3 cache what the copy has left there, the rest the TCP stack. Pages are copied into the socket here, and lent off this machine
 * (GW_PEER_LEND_MIN): lent over loopback they left the receiver alone with all copying and most sending, 0.56-0.96 of the plain
 * rate on a Xeon where copied ones reach 1.01-1.22. Tried and no faster: SO_RCVLOWAT, spans
 * of 32-512 KiB, prefetching, a bounce buffer in L2 that is summed up and copied on by non-temporal stores (0.50 ns/byte
 * either way), one to four streams. Unix sockets take 0.39 ns/byte where TCP takes 0.50 and bench_page's copy 0.24: shared memory
 * would save a third of what is left, and cost a pool that peers map whole; so far that has not been worth it. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "migrate/checksum.h"
#include "migrate/peer_fetch.h"
#include "migrate/peer_server.h"

#define GROUPS      8
#define HEADS       8
#define LAYER_BYTES (2u * 16 * 128 * 2) /* K, V × 16 tokens × head_dim 128 × bf16 */
#define PAGE_BYTES  (4 * LAYER_BYTES)   /* groups of four layers */
#define BLOCKS      128u
#define BLOCK_BYTES ((size_t)GROUPS * HEADS * PAGE_BYTES)
#define TOTAL       (BLOCKS * BLOCK_BYTES)
#define PIECE       ((size_t)1 << 20)
#define ROUNDS      10
#define RANKS       4
#define CONNS_MAX   4

static const char KEY[] = "the key of a benchmark";

static void need(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "bench_migrate: %s\n", what);
    exit(1);
}

/* ---- pools: block b is slot b ---- */

static const struct gw_page_rect ALL = {0, GROUPS, 0, HEADS};

/* Ranks share the memory of the whole, and each holds its part. */
struct pool {
    struct gw_page_rect held;
    uint8_t *arenas;      /* [GROUPS × HEADS][BLOCKS][PAGE_BYTES] */
    const uint64_t *sums; /* [GROUPS × HEADS][BLOCKS]; a destination has none */
    uint32_t committed;
};

static struct gw_block_name name_of(uint32_t block)
{
    struct gw_block_name name = {{1}};
    memcpy(name.bytes + 4, &block, sizeof block);
    return name;
}

static uint8_t *page_at(const struct pool *p, uint32_t slot, struct gw_page_id id, uint32_t *bytes)
{
    if (!gw_page_rect_has(p->held, id.group, id.head)) return NULL;
    *bytes = PAGE_BYTES;
    return p->arenas + ((size_t)gw_page_rect_index(ALL, id.group, id.head) * BLOCKS + slot) * PAGE_BYTES;
}

static bool pin(void *arg, const struct gw_block_name *name, uint32_t *slot)
{
    (void)arg;
    memcpy(slot, name->bytes + 4, sizeof *slot);
    return *slot < BLOCKS;
}

static void unpin(void *arg, uint32_t slot)
{
    (void)arg;
    (void)slot;
}

static const uint8_t *source_page(void *arg, uint32_t slot, struct gw_page_id id, uint32_t *bytes,
                                  uint64_t *checksum)
{
    const struct pool *p = arg;
    *checksum = p->sums[(size_t)gw_page_rect_index(ALL, id.group, id.head) * BLOCKS + slot];
    return page_at(p, slot, id, bytes);
}

static gw_err_t claim(void *arg, const struct gw_block_name *name, uint32_t *slot)
{
    (void)arg;
    memcpy(slot, name->bytes + 4, sizeof *slot);
    return GW_OK;
}

static uint8_t *sink_page(void *arg, uint32_t slot, struct gw_page_id id, uint32_t *bytes)
{
    return page_at(arg, slot, id, bytes);
}

static void commit(void *arg, uint32_t slot, const struct gw_block_name *name, const uint64_t *sums)
{
    struct pool *p = arg;
    (void)slot;
    (void)name;
    (void)sums;
    p->committed++;
}

static void abandon(void *arg, uint32_t slot)
{
    (void)arg;
    (void)slot;
    need(false, "a block was abandoned");
}

/* Every page has bytes of its own: a word at its start, and one at its end. */
static uint64_t word_of(uint32_t page, uint32_t block, bool end)
{
    return gw_mix64((uint64_t)block << 32 | page << 1 | end);
}

static uint8_t *map_arenas(void)
{
    uint8_t *arenas = mmap(NULL, TOTAL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(arenas != MAP_FAILED, "no memory");
    (void)madvise(arenas, TOTAL,
                  MADV_HUGEPAGE); /* pages that lie apart otherwise cost a tenth in TLB misses */
    memset(arenas, 0x55, TOTAL);
    return arenas;
}

/* As a worker does when it seals blocks. */
static const uint64_t *sum_up(const uint8_t *arenas)
{
    uint64_t *sums = calloc((size_t)GROUPS * HEADS * BLOCKS, sizeof *sums);
    need(sums != NULL, "no memory");
    for (size_t i = 0; i < GROUPS * HEADS * BLOCKS; i++)
        sums[i] = gw_checksum(arenas + i * PAGE_BYTES, PAGE_BYTES);
    return sums;
}

static void fill(uint8_t *arenas)
{
    for (uint32_t i = 0; i < GROUPS * HEADS * BLOCKS; i++) {
        uint64_t first = word_of(i / BLOCKS, i % BLOCKS, false), last = word_of(i / BLOCKS, i % BLOCKS, true);
        uint8_t *page = arenas + (size_t)i * PAGE_BYTES;
        for (size_t at = 0; at < PAGE_BYTES; at += 8) memcpy(page + at, &first, 8);
        memcpy(page + PAGE_BYTES - 8, &last, 8);
    }
}

static void check_and_wipe(uint8_t *arenas)
{
    for (uint32_t i = 0; i < GROUPS * HEADS * BLOCKS; i++) {
        uint64_t first = word_of(i / BLOCKS, i % BLOCKS, false), last = word_of(i / BLOCKS, i % BLOCKS, true);
        uint8_t *page = arenas + (size_t)i * PAGE_BYTES;
        need(memcmp(page, &first, 8) == 0 && memcmp(page + PAGE_BYTES - 8, &last, 8) == 0,
             "wrong bytes came");
        memset(page, 0, 8);
        memset(page + PAGE_BYTES - 8, 0, 8);
    }
}

/* ---- the other process: page servers and plain senders ---- */

struct board {
    char whole[GW_FETCH_ADDRESS_BYTES], secure[GW_FETCH_ADDRESS_BYTES], ranks[RANKS][GW_FETCH_ADDRESS_BYTES];
    _Atomic bool ready;
};

static const struct gw_page_model MODEL = {{9}, 1, LAYER_BYTES};
static const struct gw_page_fence FENCE = {1, 1, 0};

static const struct gw_tls *make_tls(void)
{
    const struct gw_tls_config config = {.key = KEY, .key_len = sizeof KEY, .everywhere = true};
    struct gw_tls *tls = NULL;
    need(gw_tls_create(&config, &tls, NULL) == GW_OK, "TLS");
    return tls;
}

/* tls NULL: plaintext. */
static void serve(struct pool *p, const struct gw_tls *tls, char address[GW_FETCH_ADDRESS_BYTES])
{
    const struct gw_peer_server_config config = {.host = "127.0.0.1",
                                                 .unix_socket = true,
                                                 .key = KEY,
                                                 .key_len = sizeof KEY,
                                                 .tls = tls,
                                                 .model = MODEL,
                                                 .source = {p, pin, unpin, source_page}};
    struct gw_peer_server *server = NULL;
    struct gw_err_ctx ctx = {0};
    need(gw_peer_server_create(&config, &server, &ctx) == GW_OK, ctx.text);
    snprintf(address, GW_FETCH_ADDRESS_BYTES, "%s", gw_peer_server_address(server));
}

struct part {
    int fd;
    uint8_t *at;
    size_t bytes;
};

static void *send_part(void *arg)
{
    const struct part *p = arg;
    for (size_t done = 0; done < p->bytes;) {
        size_t end = done / PIECE * PIECE + PIECE;
        ssize_t n = send(p->fd, p->at + done, (end < p->bytes ? end : p->bytes) - done, MSG_NOSIGNAL);
        need(n > 0, "send");
        done += (size_t)n;
    }
    return NULL;
}

static void *receive_part(void *arg)
{
    const struct part *p = arg;
    for (size_t done = 0; done < p->bytes;) {
        size_t end = done / PIECE * PIECE + PIECE;
        ssize_t n = recv(p->fd, p->at + done, (end < p->bytes ? end : p->bytes) - done, 0);
        need(n > 0, "recv");
        done += (size_t)n;
    }
    return NULL;
}

/* All parts at once, each by a thread of its own. */
static void all_parts(void *(*body)(void *), struct part *parts, uint32_t len)
{
    pthread_t threads[CONNS_MAX];
    for (uint32_t i = 0; i < len; i++)
        need(pthread_create(&threads[i], NULL, body, &parts[i]) == 0, "thread");
    for (uint32_t i = 0; i < len; i++) pthread_join(threads[i], NULL);
}

static void cut(struct part *parts, const int *fds, uint32_t len, uint8_t *at, size_t bytes)
{
    for (uint32_t i = 0; i < len; i++) parts[i] = (struct part){fds[i], at + bytes / len * i, bytes / len};
}

/* What the parent says on connection 0. */
struct order {
    uint64_t conns, bytes; /* 0 connections: a byte back, then bytes: the turn of a cutover */
};

static void send_plain(uint8_t *arenas, const int *fds)
{
    struct order order;
    struct part parts[CONNS_MAX];
    while (recv(fds[0], &order, sizeof order, MSG_WAITALL) == sizeof order) {
        uint32_t conns = order.conns ? (uint32_t)order.conns : 1;
        cut(parts, fds, conns, arenas, order.bytes);
        if (conns == 1)
            send_part(&parts[0]);
        else
            all_parts(send_part, parts, conns);
    }
}

static struct gw_page_rect rect(uint32_t g0, uint32_t g1, uint32_t h0, uint32_t h1)
{
    return (struct gw_page_rect){(uint16_t)g0, (uint16_t)g1, (uint16_t)h0, (uint16_t)h1};
}

/* TP 4: two heads each. */
static struct gw_page_rect source_rect(uint32_t rank)
{
    return rect(0, GROUPS, rank * HEADS / RANKS, (rank + 1) * HEADS / RANKS);
}

/* TP 2 × PP 2. */
static struct gw_page_rect sink_rect(uint32_t rank)
{
    uint32_t stage = rank / 2, half = rank % 2;
    return rect(stage * GROUPS / 2, (stage + 1) * GROUPS / 2, half * HEADS / 2, (half + 1) * HEADS / 2);
}

static void run_source(struct board *board, const int *fds)
{
    struct pool whole = {.held = ALL, .arenas = map_arenas()}, ranks[RANKS];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fill(whole.arenas);
    whole.sums = sum_up(whole.arenas);
    serve(&whole, NULL, board->whole);
    serve(&whole, make_tls(), board->secure);
    for (uint32_t i = 0; i < RANKS; i++) {
        ranks[i] = (struct pool){source_rect(i), whole.arenas, whole.sums, 0};
        serve(&ranks[i], NULL, board->ranks[i]);
    }
    board->ready = true;
    send_plain(whole.arenas, fds);
    _exit(0);
}

/* ---- this process: the destination ---- */

static void connect_pair(int fds[2])
{
    const int on = 1;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    need(bind(listener, (struct sockaddr *)&addr, len) == 0 && listen(listener, 1) == 0 &&
             getsockname(listener, (struct sockaddr *)&addr, &len) == 0,
         "listen");
    fds[0] = socket(AF_INET, SOCK_STREAM, 0);
    need(connect(fds[0], (struct sockaddr *)&addr, len) == 0, "connect");
    fds[1] = accept(listener, NULL, NULL);
    close(listener);
    for (int i = 0; i < 2; i++) setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* What this process works with. */
struct side {
    const struct board *board;
    uint8_t *arenas;
    const int *fds; /* plain connections */
    pid_t source;
};

/* What a turn took, or the best of many did. */
struct cost {
    double rate; /* GB/s by the wall clock */
    double cpu;  /* ns of processor time per byte, of both processes; 0: no turn yet */
};

struct meter {
    const struct side *side;
    int64_t start_us;
    double start_cpu_s;
};

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    need(clock_gettime(clock, &t) == 0, "no clock");
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_now_s(const struct side *side)
{
    clockid_t other;
    need(clock_getcpuclockid(side->source, &other) == 0, "no clock of another process");
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID) + seconds_of(other);
}

static struct meter begin(const struct side *side)
{
    return (struct meter){side, gw_clock_mono_us(), cpu_now_s(side)};
}

static double rate_of(size_t bytes, int64_t us)
{
    return (double)bytes / (double)us / 1e3;
}

/* TOTAL bytes have come. */
static void end(const struct meter *m, struct cost *best)
{
    double rate = rate_of(TOTAL, gw_clock_mono_us() - m->start_us);
    double cpu = (cpu_now_s(m->side) - m->start_cpu_s) / (double)TOTAL * 1e9;
    if (rate > best->rate) best->rate = rate;
    if (best->cpu == 0 || cpu < best->cpu) best->cpu = cpu;
}

static void receive_plain(const struct side *side, uint32_t conns, struct cost *best)
{
    struct order order = {conns, TOTAL};
    struct part parts[CONNS_MAX];
    struct meter meter = begin(side);
    need(send(side->fds[0], &order, sizeof order, 0) == sizeof order, "send");
    cut(parts, side->fds, conns, side->arenas, TOTAL);
    if (conns == 1)
        receive_part(&parts[0]);
    else
        all_parts(receive_part, parts, conns);
    end(&meter, best);
}

/* A fetch by one rank. */
struct rank {
    struct pool pool;
    struct gw_peer_fetch *fetch;
    uint32_t first, blocks;
};

enum way { OVER_TCP, OVER_UNIX, OVER_TLS };

static void open_rank(struct rank *r, uint8_t *arenas, struct gw_page_rect held,
                      const struct gw_fetch_source *sources, uint32_t sources_len, uint32_t streams,
                      enum way way)
{
    *r = (struct rank){.pool = {.held = held, .arenas = arenas}, .blocks = BLOCKS};
    const struct gw_peer_fetch_config config = {.key = KEY,
                                                .key_len = sizeof KEY,
                                                .tls = way == OVER_TLS ? make_tls() : NULL,
                                                .fence = FENCE,
                                                .model = MODEL,
                                                .sink = {&r->pool, claim, sink_page, commit, abandon},
                                                .want = held,
                                                .sources = sources,
                                                .sources_len = sources_len,
                                                .streams = streams,
                                                .try_unix = way == OVER_UNIX};
    struct gw_err_ctx ctx = {0};
    need(gw_peer_fetch_create(&config, &r->fetch, &ctx) == GW_OK, ctx.text);
}

static void *fetch_rank(void *arg)
{
    struct rank *r = arg;
    struct gw_block_name names[BLOCKS];
    bool there[BLOCKS];
    struct gw_fetch_result result;
    struct gw_err_ctx ctx = {0};
    for (uint32_t i = 0; i < r->blocks; i++) names[i] = name_of(r->first + i);
    int64_t deadline_us = gw_clock_mono_us() + 60 * GW_US_PER_S;
    need(gw_peer_fetch_run(r->fetch, names, r->blocks, deadline_us, there, &result, &ctx) == GW_OK, ctx.text);
    need(result.blocks == r->blocks && result.broken == 0, "not all blocks came");
    return NULL;
}

static void fetch_all(const struct side *side, struct rank *ranks, uint32_t len, struct cost *best)
{
    pthread_t threads[RANKS];
    struct meter meter = begin(side);
    for (uint32_t i = 1; i < len; i++)
        need(pthread_create(&threads[i], NULL, fetch_rank, &ranks[i]) == 0, "thread");
    fetch_rank(&ranks[0]);
    for (uint32_t i = 1; i < len; i++) pthread_join(threads[i], NULL);
    end(&meter, best);
    check_and_wipe(side->arenas);
}

static void report(const char *name, double ours, double ref, const char *unit)
{
    printf("bench %s ours=%.2f ref=%.2f ratio=%.2f unit=%s\n", name, ours, ref, ours / ref, unit);
    fflush(stdout);
}

static void report_cost(const char *name, const struct cost *ours, const struct cost *ref)
{
    char cpu[64];
    snprintf(cpu, sizeof cpu, "%s_cpu", name);
    report(name, ours->rate, ref->rate, "GB/s");
    report(cpu, ours->cpu, ref->cpu, "ns/byte");
}

static struct gw_fetch_source source_of(const char *address, struct gw_page_rect pages)
{
    struct gw_fetch_source s = {.pages = pages};
    snprintf(s.address, sizeof s.address, "%s", address);
    return s;
}

static void bench_peer(const struct side *side)
{
    const struct gw_fetch_source whole = source_of(side->board->whole, ALL);
    const struct gw_fetch_source behind_tls = source_of(side->board->secure, ALL);
    struct rank tcp, local, secure;
    struct cost over_tcp = {0}, over_unix = {0}, over_tls = {0}, plain = {0};
    uint32_t streams = sysconf(_SC_NPROCESSORS_ONLN) >= CONNS_MAX ? CONNS_MAX : 2;
    open_rank(&tcp, side->arenas, ALL, &whole, 1, streams, OVER_TCP);
    open_rank(&local, side->arenas, ALL, &whole, 1, streams, OVER_UNIX);
    open_rank(&secure, side->arenas, ALL, &behind_tls, 1, streams, OVER_TLS);
    for (uint32_t i = 0; i < 2 * ROUNDS; i++) {
        fetch_all(side, &tcp, 1, &over_tcp);
        receive_plain(side, i % 2 ? streams : streams / 2, &plain);
        fetch_all(side, &local, 1, &over_unix);
        fetch_all(side, &secure, 1, &over_tls);
    }
    gw_peer_fetch_destroy(tcp.fetch);
    gw_peer_fetch_destroy(local.fetch);
    gw_peer_fetch_destroy(secure.fetch);
    report_cost("peer_tcp", &over_tcp, &plain);
    report_cost("peer_unix", &over_unix, &plain);
    report_cost("peer_tls", &over_tls, &plain);
}

static void bench_reslice(const struct side *side)
{
    struct gw_fetch_source sources[RANKS];
    struct rank ranks[RANKS];
    struct cost ours = {0}, plain = {0};
    for (uint32_t i = 0; i < RANKS; i++) sources[i] = source_of(side->board->ranks[i], source_rect(i));
    for (uint32_t i = 0; i < RANKS; i++)
        open_rank(&ranks[i], side->arenas, sink_rect(i), sources, RANKS, 1, OVER_TCP);
    for (uint32_t i = 0; i < 2 * ROUNDS; i++) {
        fetch_all(side, ranks, RANKS, &ours);
        receive_plain(side, i % 2 ? 2 : 4, &plain);
    }
    for (uint32_t i = 0; i < RANKS; i++) gw_peer_fetch_destroy(ranks[i].fetch);
    report_cost("reslice_tp4_tp2pp2", &ours, &plain);
}

static void bench_block(const struct side *side)
{
    const struct gw_fetch_source whole = source_of(side->board->whole, ALL);
    struct rank r;
    int64_t ours = INT64_MAX, plain = INT64_MAX;
    open_rank(&r, side->arenas, ALL, &whole, 1, 1, OVER_TCP);
    r.blocks = 1;
    for (int i = 0; i < 20 * ROUNDS; i++) {
        struct order order = {0, BLOCK_BYTES};
        struct part part = {side->fds[0], side->arenas, BLOCK_BYTES};
        int64_t start = gw_clock_mono_us();
        fetch_rank(&r);
        int64_t middle = gw_clock_mono_us();
        need(send(side->fds[0], &order, sizeof order, 0) == sizeof order, "send");
        receive_part(&part);
        int64_t stop = gw_clock_mono_us();
        if (i == 0) continue; /* connects */
        if (middle - start < ours) ours = middle - start;
        if (stop - middle < plain) plain = stop - middle;
    }
    gw_peer_fetch_destroy(r.fetch);
    report("fetch_block", (double)ours, (double)plain, "us");
}

int main(void)
{
    struct board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int pairs[CONNS_MAX][2], ours[CONNS_MAX], theirs[CONNS_MAX];
    need(board != MAP_FAILED, "no memory");
    for (int i = 0; i < CONNS_MAX; i++) {
        connect_pair(pairs[i]);
        ours[i] = pairs[i][0];
        theirs[i] = pairs[i][1];
    }
    pid_t pid = fork();
    need(pid >= 0, "fork");
    if (pid == 0) run_source(board, theirs);
    struct side side = {board, map_arenas(), ours, pid};
    while (!board->ready) usleep(1000);
    bench_peer(&side);
    bench_reslice(&side);
    bench_block(&side);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}
