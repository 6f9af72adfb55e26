/* What the mesh's tests share: ranks with a mesh each, and a peer made by hand from the byte table alone. */
#ifndef GW_TESTS_LIB_MESH_FIXTURE_H
#define GW_TESTS_LIB_MESH_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/rng.h"
#include "base/sockaddr.h"
#include "worker/mesh.h"

#define KEY          "sixteen bytes or more"
#define MESH_RANKS   8
#define DEADLINE_US  (20 * GW_US_PER_S) /* what should not pass */
#define SHORT_US     (150 * GW_US_PER_MS)
#define HELLO_BYTES  48
#define NONCE_BYTES  16
#define PROOF_BYTES  GW_SHA256_BYTES
#define TERM         7
#define PIPELINE     3
#define GENERATION   11
#define LATE_US      (60 * GW_US_PER_S)
#define DIAL_LABEL   "godwit mesh dial"
#define LISTEN_LABEL "godwit mesh listen"

/* One rank of a test: its mesh, and a gather of it on a thread. */
struct mesh_rank {
    struct gw_mesh *mesh;
    struct gw_assign_rank ranks[MESH_RANKS];
    struct gw_msg_assign assign;
    uint64_t term, generation;
    int64_t deadline_us, took_us;
    struct gw_socket sockets[MESH_RANKS];
    uint32_t unreached;
    gw_err_t err;
    struct gw_err_ctx ctx;
    pthread_t thread;
};

struct mesh_fixture {
    struct mesh_rank r[MESH_RANKS];
    int open_before;
};

static inline int count_open(void)
{
    int count = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d)) count++;
    closedir(d);
    return count;
}

static const struct gw_tls *mesh_tls; /* of meshes that are opened; NULL: plaintext */

static inline void open_mesh(struct mesh_rank *r, const char *host, const char *key, int64_t shake_us,
                             int64_t wait_us)
{
    const struct gw_mesh_config config = {.host = host,
                                          .key = key,
                                          .key_len = strlen(key),
                                          .tls = mesh_tls,
                                          .shake_us = shake_us,
                                          .wait_us = wait_us};
    struct gw_err_ctx ctx = {0};
    if (gw_mesh_create(&config, &r->mesh, &ctx) != GW_OK) fail_msg("%s", ctx.text);
}

/* Meshes for ranks [0, len), and what each is told of the others. */
static inline void open_ranks(struct mesh_fixture *f, uint32_t len, const char *host)
{
    for (uint32_t i = 0; i < len; i++)
        if (!f->r[i].mesh) open_mesh(&f->r[i], host, KEY, 0, 0);
    for (uint32_t i = 0; i < len; i++) {
        struct mesh_rank *r = &f->r[i];
        for (uint32_t j = 0; j < len; j++) {
            snprintf(r->ranks[j].worker, sizeof r->ranks[j].worker, "w%u", j);
            snprintf(r->ranks[j].data, sizeof r->ranks[j].data, "%s", gw_mesh_address(f->r[j].mesh));
        }
        r->assign = (struct gw_msg_assign){.self = i, .ranks_len = len, .ranks = r->ranks};
        r->term = TERM;
        r->generation = GENERATION;
        r->deadline_us = DEADLINE_US;
    }
}

static inline void gather(struct mesh_rank *r)
{
    int64_t start = gw_clock_mono_us();
    r->err = gw_mesh_gather(r->mesh, r->term, PIPELINE, r->generation, &r->assign, r->deadline_us, r->sockets,
                            &r->unreached, &r->ctx);
    r->took_us = gw_clock_mono_us() - start;
}

static inline void *gather_thread(void *arg)
{
    gather(arg);
    return NULL;
}

static inline void start_gather(struct mesh_rank *r)
{
    assert_int_equal(pthread_create(&r->thread, NULL, gather_thread, r), 0);
}

static inline void join_ok(struct mesh_rank *r)
{
    pthread_join(r->thread, NULL);
    if (r->err != GW_OK) fail_msg("%s", r->ctx.text);
}

static inline void close_fds(struct mesh_rank *r)
{
    for (uint32_t i = 0; i < r->assign.ranks_len; i++) gw_socket_close(&r->sockets[i]);
}

static inline void check_none_open(const struct mesh_rank *r)
{
    for (uint32_t i = 0; i < r->assign.ranks_len; i++) assert_int_equal(r->sockets[i].fd, -1);
}

static inline int set_up(void **state)
{
    struct mesh_fixture *f = calloc(1, sizeof *f);
    f->open_before = count_open();
    *state = f;
    return 0;
}

static inline void tear_down_meshes(struct mesh_fixture *f)
{
    for (int i = 0; i < MESH_RANKS; i++) {
        gw_mesh_destroy(f->r[i].mesh);
        f->r[i].mesh = NULL;
    }
    mesh_tls = NULL;
}

/* Whatever happened, no descriptor is left. */
static inline int tear_down(void **state)
{
    struct mesh_fixture *f = *state;
    tear_down_meshes(f);
    int open_after = count_open(), open_before = f->open_before;
    free(f);
    if (open_after != open_before) print_error("%d descriptors left\n", open_after - open_before);
    return open_after == open_before ? 0 : -1;
}

/* ---- a peer made by hand, from the byte table alone ---- */

static inline int connect_to(const char *address)
{
    const struct timeval patience = {.tv_sec = DEADLINE_US / GW_US_PER_S};
    char host[64];
    uint16_t port;
    struct sockaddr_storage addr;
    socklen_t len;
    assert_int_equal(gw_sockaddr_split(address, host, sizeof host, &port, NULL), GW_OK);
    assert_int_equal(gw_sockaddr_parse(host, port, &addr, &len, NULL), GW_OK);
    int fd = socket(addr.ss_family, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, len), 0);
    return fd;
}

static inline void put_le(uint8_t *at, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(v >> 8 * i);
}

static inline void make_hello(uint8_t out[HELLO_BYTES], uint64_t term, uint64_t generation, uint32_t from,
                              uint32_t to)
{
    memcpy(out, "GWM1", 4);
    put_le(out + 4, term, 8);
    put_le(out + 12, PIPELINE, 4);
    put_le(out + 16, generation, 8);
    put_le(out + 24, from, 4);
    put_le(out + 28, to, 4);
    memset(out + 32, 0x5A, NONCE_BYTES);
}

static inline void make_proof(const char *label, const char *key, const uint8_t hello[HELLO_BYTES],
                              const uint8_t nonce[NONCE_BYTES], uint8_t out[PROOF_BYTES])
{
    uint8_t text[32 + HELLO_BYTES + NONCE_BYTES];
    size_t len = strlen(label);
    memcpy(text, label, len);
    memcpy(text + len, hello, HELLO_BYTES);
    memcpy(text + len + HELLO_BYTES, nonce, NONCE_BYTES);
    gw_hmac_sha256(key, strlen(key), text, len + HELLO_BYTES + NONCE_BYTES, out);
}

static inline bool read_all(int fd, void *to, size_t len)
{
    return recv(fd, to, len, MSG_WAITALL) == (ssize_t)len;
}

/* The other end closed and sent nothing (more). */
static inline bool sees_end(int fd)
{
    uint8_t byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* A dialer made by hand that has sent its PROOF, and the one that it waits for. */
struct hand {
    int fd;
    uint8_t want[PROOF_BYTES];
};

/* Dials as rank `from`; `behind` follows the PROOF in the same packet. */
static inline struct hand dial_by_hand(const struct mesh_rank *to, const char *key, uint64_t term,
                                       uint64_t generation, uint32_t from, const char *behind)
{
    struct hand h = {.fd = connect_to(gw_mesh_address(to->mesh))};
    uint8_t hello[HELLO_BYTES], nonce[NONCE_BYTES], last[PROOF_BYTES + 64];
    make_hello(hello, term, generation, from, to->assign.self);
    assert_int_equal(send(h.fd, hello, sizeof hello, 0), sizeof hello);
    assert_true(read_all(h.fd, nonce, sizeof nonce));
    make_proof(DIAL_LABEL, key, hello, nonce, last);
    memcpy(last + PROOF_BYTES, behind, strlen(behind));
    assert_int_equal(send(h.fd, last, PROOF_BYTES + strlen(behind), 0), PROOF_BYTES + strlen(behind));
    make_proof(LISTEN_LABEL, key, hello, nonce, h.want);
    return h;
}

static inline void check_admitted(const struct hand *h)
{
    uint8_t got[PROOF_BYTES];
    assert_true(read_all(h->fd, got, sizeof got));
    assert_memory_equal(got, h->want, sizeof got);
}

/* It was closed, and never got a proof. */
static inline void check_sent_away(const struct hand *h)
{
    assert_true(sees_end(h->fd));
    close(h->fd);
}

static inline void check_connected(int a, int b)
{
    char sent[] = "to and fro", got[sizeof sent];
    fcntl(b, F_SETFL, fcntl(b, F_GETFL) & ~O_NONBLOCK);
    assert_int_equal(send(a, sent, sizeof sent, 0), sizeof sent);
    assert_true(read_all(b, got, sizeof got));
    assert_memory_equal(sent, got, sizeof sent);
}

#define MESH_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
