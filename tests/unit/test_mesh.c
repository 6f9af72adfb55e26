/* worker/mesh: ranks find each other over loopback; strangers, liars and the late get nothing. */
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
#define RANKS_MAX    8
#define DEADLINE_US  (20 * GW_US_PER_S) /* what should not pass */
#define SHORT_US     (150 * GW_US_PER_MS)
#define HELLO_BYTES  48
#define NONCE_BYTES  16
#define PROOF_BYTES  GW_SHA256_BYTES
#define TERM         7
#define PIPELINE     3
#define GENERATION   11
#define FUZZ_ROUNDS  400
#define FUZZ_BYTES   160
#define STRANGERS    (GW_MESH_PENDING_MAX + 40)
#define LATE_US      (60 * GW_US_PER_S)
#define DIAL_LABEL   "godwit mesh dial"
#define LISTEN_LABEL "godwit mesh listen"

/* One rank of a test: its mesh, and a gather of it on a thread. */
struct rank {
    struct gw_mesh *mesh;
    struct gw_assign_rank ranks[RANKS_MAX];
    struct gw_msg_assign assign;
    uint64_t term, generation;
    int64_t deadline_us, took_us;
    int fds[RANKS_MAX];
    gw_err_t err;
    struct gw_err_ctx ctx;
    pthread_t thread;
};

struct fixture {
    struct rank r[RANKS_MAX];
    int open_before;
};

static int count_open(void)
{
    int count = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d)) count++;
    closedir(d);
    return count;
}

static void open_mesh(struct rank *r, const char *host, const char *key, int64_t shake_us, int64_t wait_us)
{
    const struct gw_mesh_config config = {
        .host = host, .key = key, .key_len = strlen(key), .shake_us = shake_us, .wait_us = wait_us};
    struct gw_err_ctx ctx = {0};
    if (gw_mesh_create(&config, &r->mesh, &ctx) != GW_OK) fail_msg("%s", ctx.text);
}

/* Meshes for ranks [0, len), and what each is told of the others. */
static void open_ranks(struct fixture *f, uint32_t len, const char *host)
{
    for (uint32_t i = 0; i < len; i++)
        if (!f->r[i].mesh) open_mesh(&f->r[i], host, KEY, 0, 0);
    for (uint32_t i = 0; i < len; i++) {
        struct rank *r = &f->r[i];
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

static void gather(struct rank *r)
{
    int64_t start = gw_clock_mono_us();
    r->err = gw_mesh_gather(r->mesh, r->term, PIPELINE, r->generation, &r->assign, r->deadline_us, r->fds,
                            &r->ctx);
    r->took_us = gw_clock_mono_us() - start;
}

static void *gather_thread(void *arg)
{
    gather(arg);
    return NULL;
}

static void start_gather(struct rank *r)
{
    assert_int_equal(pthread_create(&r->thread, NULL, gather_thread, r), 0);
}

static void join_ok(struct rank *r)
{
    pthread_join(r->thread, NULL);
    if (r->err != GW_OK) fail_msg("%s", r->ctx.text);
}

static void close_fds(struct rank *r)
{
    for (uint32_t i = 0; i < r->assign.ranks_len; i++)
        if (r->fds[i] >= 0) close(r->fds[i]);
}

static void check_none_open(const struct rank *r)
{
    for (uint32_t i = 0; i < r->assign.ranks_len; i++) assert_int_equal(r->fds[i], -1);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->open_before = count_open();
    *state = f;
    return 0;
}

/* Whatever happened, no descriptor is left. */
static int tear_down(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < RANKS_MAX; i++) gw_mesh_destroy(f->r[i].mesh);
    int open_after = count_open(), open_before = f->open_before;
    free(f);
    if (open_after != open_before) print_error("%d descriptors left\n", open_after - open_before);
    return open_after == open_before ? 0 : -1;
}

/* ---- a peer made by hand, from the byte table alone ---- */

static int connect_to(const char *address)
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

static void put_le(uint8_t *at, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(v >> 8 * i);
}

static void make_hello(uint8_t out[HELLO_BYTES], uint64_t term, uint64_t generation, uint32_t from,
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

static void make_proof(const char *label, const char *key, const uint8_t hello[HELLO_BYTES],
                       const uint8_t nonce[NONCE_BYTES], uint8_t out[PROOF_BYTES])
{
    uint8_t text[32 + HELLO_BYTES + NONCE_BYTES];
    size_t len = strlen(label);
    memcpy(text, label, len);
    memcpy(text + len, hello, HELLO_BYTES);
    memcpy(text + len + HELLO_BYTES, nonce, NONCE_BYTES);
    gw_hmac_sha256(key, strlen(key), text, len + HELLO_BYTES + NONCE_BYTES, out);
}

static bool read_all(int fd, void *to, size_t len)
{
    return recv(fd, to, len, MSG_WAITALL) == (ssize_t)len;
}

/* The other end closed and sent nothing (more). */
static bool sees_end(int fd)
{
    uint8_t byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* Dials as rank `from` and proves it; `behind` follows the PROOF in the same packet. -1: the listener did not take it. */
static int dial_by_hand(const struct rank *to, const char *key, uint64_t term, uint64_t generation,
                        uint32_t from, const char *behind)
{
    uint8_t hello[HELLO_BYTES], nonce[NONCE_BYTES], last[PROOF_BYTES + 64], want[PROOF_BYTES],
        got[PROOF_BYTES];
    int fd = connect_to(gw_mesh_address(to->mesh));
    make_hello(hello, term, generation, from, to->assign.self);
    assert_int_equal(send(fd, hello, sizeof hello, 0), sizeof hello);
    assert_true(read_all(fd, nonce, sizeof nonce));
    make_proof(DIAL_LABEL, key, hello, nonce, last);
    memcpy(last + PROOF_BYTES, behind, strlen(behind));
    assert_int_equal(send(fd, last, PROOF_BYTES + strlen(behind), 0), PROOF_BYTES + strlen(behind));
    if (!read_all(fd, got, sizeof got)) {
        close(fd);
        return -1;
    }
    make_proof(LISTEN_LABEL, key, hello, nonce, want);
    assert_memory_equal(got, want, sizeof want);
    return fd;
}

static void check_connected(int a, int b)
{
    char sent[] = "to and fro", got[sizeof sent];
    fcntl(b, F_SETFL, fcntl(b, F_GETFL) & ~O_NONBLOCK);
    assert_int_equal(send(a, sent, sizeof sent, 0), sizeof sent);
    assert_true(read_all(b, got, sizeof got));
    assert_memory_equal(sent, got, sizeof sent);
}

/* ---- ranks among themselves ---- */

static void check_socket_flags(int fd)
{
    int nodelay = 0;
    socklen_t len = sizeof nodelay;
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &len), 0);
    assert_true(nodelay);
}

static void test_gather_eight_ranks_connects_each_pair(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, RANKS_MAX, "127.0.0.1");
    for (int i = 0; i < RANKS_MAX; i++) start_gather(&f->r[i]);
    for (int i = 0; i < RANKS_MAX; i++) join_ok(&f->r[i]);
    for (int i = 0; i < RANKS_MAX; i++) {
        assert_int_equal(f->r[i].fds[i], -1);
        for (int j = 0; j < i; j++) {
            check_socket_flags(f->r[i].fds[j]);
            check_socket_flags(f->r[j].fds[i]);
            check_connected(f->r[i].fds[j], f->r[j].fds[i]);
            check_connected(f->r[j].fds[i], f->r[i].fds[j]);
        }
    }
    for (int i = 0; i < RANKS_MAX; i++) close_fds(&f->r[i]);
}

static void test_gather_one_rank_is_complete_at_once(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, 1, "127.0.0.1");
    f->r[0].deadline_us = 0;
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_OK);
    check_none_open(&f->r[0]);
}

static void test_gather_after_the_dialer_finds_its_connection(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    gather(&f->r[1]); /* the listener has heard of nothing yet */
    assert_int_equal(f->r[1].err, GW_OK);
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_OK);
    check_connected(f->r[0].fds[1], f->r[1].fds[0]);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
}

static void test_gather_before_the_listener_exists_dials_again(void **state)
{
    struct fixture *f = *state;
    struct gw_err_ctx ctx = {0};
    open_ranks(f, 2, "127.0.0.1");
    char host[64];
    uint16_t port;
    assert_int_equal(gw_sockaddr_split(gw_mesh_address(f->r[0].mesh), host, sizeof host, &port, NULL), GW_OK);
    gw_mesh_destroy(f->r[0].mesh);
    f->r[0].mesh = NULL;
    start_gather(&f->r[1]);
    const struct gw_mesh_config config = {.host = host, .port = port, .key = KEY, .key_len = strlen(KEY)};
    if (gw_mesh_create(&config, &f->r[0].mesh, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    gather(&f->r[0]);
    join_ok(&f->r[1]);
    assert_int_equal(f->r[0].err, GW_OK);
    check_connected(f->r[1].fds[0], f->r[0].fds[1]);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
}

static void test_gather_ipv6_reads_bracketed_addresses(void **state)
{
    struct fixture *f = *state;
    const struct gw_mesh_config config = {.host = "::1", .key = KEY, .key_len = strlen(KEY)};
    if (gw_mesh_create(&config, &f->r[0].mesh, NULL) != GW_OK) skip(); /* a machine without IPv6 */
    open_ranks(f, 2, "::1");
    assert_ptr_equal(strstr(gw_mesh_address(f->r[0].mesh), "[::1]:"), gw_mesh_address(f->r[0].mesh));
    start_gather(&f->r[1]);
    gather(&f->r[0]);
    join_ok(&f->r[1]);
    assert_int_equal(f->r[0].err, GW_OK);
    check_connected(f->r[1].fds[0], f->r[0].fds[1]);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
}

static void test_gather_two_generations_at_once_are_kept_apart(void **state)
{
    struct fixture *f = *state;
    struct rank late;
    open_ranks(f, 2, "127.0.0.1");
    late = f->r[0];
    late.generation = GENERATION + 1;
    start_gather(&f->r[0]);
    start_gather(&late);
    f->r[1].generation = GENERATION + 1;
    gather(&f->r[1]);
    assert_int_equal(f->r[1].err, GW_OK);
    join_ok(&late);
    check_connected(f->r[1].fds[0], late.fds[1]);
    close_fds(&f->r[1]);
    f->r[1].generation = GENERATION;
    gather(&f->r[1]);
    join_ok(&f->r[0]);
    check_connected(f->r[1].fds[0], f->r[0].fds[1]);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
    close_fds(&late);
}

/* ---- who does not come ---- */

static void test_gather_missing_dialer_is_named_at_the_deadline(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, 3, "127.0.0.1");
    f->r[0].deadline_us = 4 * SHORT_US;
    start_gather(&f->r[0]);
    int fd = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    pthread_join(f->r[0].thread, NULL);
    assert_int_equal(f->r[0].err, GW_ERR_IO);
    assert_true(f->r[0].took_us >= 4 * SHORT_US);
    assert_non_null(strstr(f->r[0].ctx.text, "rank 2 (w2"));
    check_none_open(&f->r[0]);
    assert_true(sees_end(fd)); /* the one that did come is not kept */
    close(fd);
}

static void test_gather_nobody_listens_names_rank_and_address(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, 3, "127.0.0.1");
    gw_mesh_destroy(f->r[0].mesh);
    f->r[0].mesh = NULL;
    f->r[2].deadline_us = SHORT_US;
    gather(&f->r[2]);
    assert_int_equal(f->r[2].err, GW_ERR_IO);
    assert_non_null(strstr(f->r[2].ctx.text, "rank 0 (w0, 127.0.0.1:"));
    assert_non_null(strstr(f->r[2].ctx.text, "refused"));
    check_none_open(&f->r[2]);
}

static void test_gather_address_that_is_none_is_refused(void **state)
{
    static const char *const bad[] = {"example.org:1", "127.0.0.1", "[::1]", "127.0.0.1:99999", ":1"};
    struct fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(f->r[1].ranks[0].data, sizeof f->r[1].ranks[0].data, "%s", bad[i]);
        gw_err_reset(&f->r[1].ctx);
        gather(&f->r[1]);
        assert_int_equal(f->r[1].err, GW_ERR_INPUT);
        assert_non_null(strstr(f->r[1].ctx.text, "rank 0 (w0)"));
    }
}

/* A listener that is none of ours: says `answer` to whatever it hears, or echoes it. */
struct impostor {
    int fd;
    const char *answer; /* NULL: echoes */
    char address[32];
    pthread_t thread;
};

static void *impostor_thread(void *arg)
{
    struct impostor *imp = arg;
    for (;;) {
        char bytes[256];
        int fd = accept(imp->fd, NULL, NULL);
        if (fd < 0) return NULL;
        ssize_t n;
        while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0) {
            if (imp->answer) n = (ssize_t)strlen(imp->answer);
            if (send(fd, imp->answer ? imp->answer : bytes, (size_t)n, MSG_NOSIGNAL) != n) break;
        }
        close(fd);
    }
}

static void start_impostor(struct impostor *imp, const char *answer)
{
    struct sockaddr_storage addr;
    socklen_t len;
    imp->answer = answer;
    imp->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(gw_sockaddr_parse("127.0.0.1", 0, &addr, &len, NULL), GW_OK);
    assert_int_equal(bind(imp->fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(imp->fd, 16), 0);
    snprintf(imp->address, sizeof imp->address, "127.0.0.1:%u", gw_sockaddr_local_port(imp->fd));
    assert_int_equal(pthread_create(&imp->thread, NULL, impostor_thread, imp), 0);
}

static void stop_impostor(struct impostor *imp)
{
    shutdown(imp->fd, SHUT_RDWR);
    pthread_join(imp->thread, NULL);
    close(imp->fd);
}

static void test_gather_listener_without_the_key_is_not_taken(void **state)
{
    static const char *const answers[] = {
        NULL, /* its own proof comes back */
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "0123456789abcdef",
    };
    struct fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct impostor imp;
        start_impostor(&imp, answers[i]);
        snprintf(f->r[1].ranks[0].data, sizeof f->r[1].ranks[0].data, "%s", imp.address);
        gw_err_reset(&f->r[1].ctx);
        f->r[1].deadline_us = SHORT_US;
        gather(&f->r[1]);
        stop_impostor(&imp);
        assert_int_equal(f->r[1].err, GW_ERR_IO);
        assert_non_null(strstr(f->r[1].ctx.text, imp.address));
        check_none_open(&f->r[1]);
    }
}

/* The kernel accepts for a listener that never does: the dialer sees a connection and silence. */
static void test_gather_silent_listener_costs_no_more_than_the_deadline(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_storage addr;
    socklen_t len;
    open_mesh(&f->r[1], "127.0.0.1", KEY, SHORT_US / 4, 0);
    open_ranks(f, 2, "127.0.0.1");
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(gw_sockaddr_parse("127.0.0.1", 0, &addr, &len, NULL), GW_OK);
    assert_int_equal(bind(silent, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(silent, 64), 0);
    snprintf(f->r[1].ranks[0].data, sizeof f->r[1].ranks[0].data, "127.0.0.1:%u",
             gw_sockaddr_local_port(silent));
    f->r[1].deadline_us = SHORT_US;
    gather(&f->r[1]);
    assert_int_equal(f->r[1].err, GW_ERR_IO);
    assert_non_null(strstr(f->r[1].ctx.text, "does not answer"));
    assert_true(f->r[1].took_us < DEADLINE_US / 2);
    close(silent);
}

static void test_gather_wrong_key_is_an_error_at_both_ends(void **state)
{
    struct fixture *f = *state;
    open_mesh(&f->r[1], "127.0.0.1", "another key of the same kind", 0, 0);
    open_ranks(f, 2, "127.0.0.1");
    f->r[0].deadline_us = f->r[1].deadline_us = SHORT_US;
    start_gather(&f->r[0]);
    gather(&f->r[1]);
    pthread_join(f->r[0].thread, NULL);
    assert_int_equal(f->r[0].err, GW_ERR_IO);
    assert_int_equal(f->r[1].err, GW_ERR_IO);
    assert_int_equal(dial_by_hand(&f->r[0], "yet another key", TERM, GENERATION, 1, ""), -1);
}

/* ---- cancel, terms ---- */

static void test_cancel_from_another_thread_ends_a_gather(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    for (int self = 0; self < 2; self++) { /* one that waits, one that dials a port where nobody listens */
        struct rank *r = &f->r[self];
        snprintf(r->ranks[0].data, sizeof r->ranks[0].data, "127.0.0.1:1");
        r->deadline_us = LATE_US;
        start_gather(r);
        gw_mesh_cancel(r->mesh, GENERATION);
        pthread_join(r->thread, NULL);
        assert_int_equal(r->err, GW_ERR_IO);
        assert_non_null(strstr(r->ctx.text, "cancelled"));
        assert_true(r->took_us < LATE_US / 2);
        check_none_open(r);
    }
}

static void test_cancel_before_the_gather_ends_it_at_once(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    f->r[0].deadline_us = LATE_US;
    gw_mesh_cancel(f->r[0].mesh, GENERATION + 3);
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_ERR_IO);
    gw_mesh_set_term(f->r[0].mesh, TERM + 1); /* counts generations from 1 again */
    f->r[0].term = f->r[1].term = TERM + 1;
    start_gather(&f->r[1]);
    gather(&f->r[0]);
    join_ok(&f->r[1]);
    assert_int_equal(f->r[0].err, GW_OK);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
}

static void test_cancel_leaves_later_generations_alone(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    start_gather(&f->r[0]);
    int older = dial_by_hand(&f->r[0], KEY, TERM, GENERATION - 1, 1, "");
    gw_mesh_set_term(f->r[0].mesh, TERM);
    gw_mesh_cancel(f->r[0].mesh, GENERATION - 1);
    assert_true(sees_end(older));
    close(older);
    assert_int_equal(dial_by_hand(&f->r[0], KEY, TERM, GENERATION - 1, 1, ""), -1); /* nor later */
    gather(&f->r[1]);
    join_ok(&f->r[0]);
    assert_int_equal(f->r[1].err, GW_OK);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
}

static void test_cancel_at_the_listener_keeps_dialers_out(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    gw_mesh_cancel(f->r[0].mesh, GENERATION);
    gw_mesh_set_term(f->r[0].mesh, TERM);
    f->r[1].deadline_us = SHORT_US;
    gather(&f->r[1]);
    assert_int_equal(f->r[1].err, GW_ERR_IO);
    assert_non_null(strstr(f->r[1].ctx.text, "closed during the handshake"));
    check_none_open(&f->r[1]);
}

static void test_set_term_ends_what_is_older(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    f->r[0].deadline_us = LATE_US;
    start_gather(&f->r[0]);
    int waiting = dial_by_hand(&f->r[0], KEY, TERM, GENERATION + 1, 1, "");
    gw_mesh_set_term(f->r[0].mesh, TERM + 1);
    pthread_join(f->r[0].thread, NULL);
    assert_int_equal(f->r[0].err, GW_ERR_IO);
    assert_true(sees_end(waiting));
    close(waiting);
    gather(&f->r[0]); /* a lower term is refused */
    assert_int_equal(f->r[0].err, GW_ERR_IO);
}

/* ---- connections that wait ---- */

static void test_waiting_connection_nobody_gathers_is_closed_in_time(void **state)
{
    struct fixture *f = *state;
    open_mesh(&f->r[0], "127.0.0.1", KEY, 0, SHORT_US);
    open_ranks(f, 2, "127.0.0.1");
    int64_t start = gw_clock_mono_us();
    int fd = dial_by_hand(&f->r[0], KEY, TERM, GENERATION + 1, 1, "");
    assert_true(fd >= 0);
    assert_true(sees_end(fd));
    int64_t took = gw_clock_mono_us() - start;
    assert_true(took >= SHORT_US && took < DEADLINE_US);
    close(fd);
}

/* What a gather waits for does not run out, however long another rank takes. */
static void test_waiting_connection_of_a_gather_outlives_its_time(void **state)
{
    struct fixture *f = *state;
    open_mesh(&f->r[0], "127.0.0.1", KEY, 0, 4 * SHORT_US);
    open_ranks(f, 3, "127.0.0.1");
    start_gather(&f->r[0]);
    int claimed = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    int stray = dial_by_hand(&f->r[0], KEY, TERM, GENERATION + 1, 1, "");
    assert_true(sees_end(stray)); /* the claimed one is older, and would have gone before */
    int last = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 2, "");
    join_ok(&f->r[0]);
    check_connected(claimed, f->r[0].fds[1]);
    check_connected(last, f->r[0].fds[2]);
    close_fds(&f->r[0]);
    close(claimed);
    close(stray);
    close(last);
}

static void test_gather_two_of_a_pair_takes_the_newer(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    int older = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    int newer = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    assert_true(sees_end(older));
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_OK);
    check_connected(newer, f->r[0].fds[1]);
    close_fds(&f->r[0]);
    close(older);
    close(newer);
}

static void test_gather_peer_that_left_does_not_count(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    close(dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, ""));
    f->r[0].deadline_us = SHORT_US;
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_ERR_IO);
    check_none_open(&f->r[0]);
}

static void test_gather_peer_that_left_is_waited_for_again(void **state)
{
    struct fixture *f = *state;
    open_ranks(f, 3, "127.0.0.1");
    close(dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, ""));
    int second = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 2, "");
    start_gather(&f->r[0]);
    int again = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, "");
    join_ok(&f->r[0]);
    check_connected(again, f->r[0].fds[1]);
    check_connected(second, f->r[0].fds[2]);
    close_fds(&f->r[0]);
    close(second);
    close(again);
}

static void test_gather_leaves_the_bytes_behind_the_handshake(void **state)
{
    static const char behind[] = "a first frame of the collective's";
    struct fixture *f = *state;
    char got[sizeof behind] = {0};
    open_ranks(f, 2, "127.0.0.1");
    int fd = dial_by_hand(&f->r[0], KEY, TERM, GENERATION, 1, behind);
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_OK);
    assert_int_equal(recv(f->r[0].fds[1], got, sizeof got, 0), strlen(behind));
    assert_string_equal(got, behind);
    close_fds(&f->r[0]);
    close(fd);
}

/* ---- strangers ---- */

static void check_mesh_works(struct fixture *f)
{
    start_gather(&f->r[1]);
    gather(&f->r[0]);
    join_ok(&f->r[1]);
    if (f->r[0].err != GW_OK) fail_msg("%s", f->r[0].ctx.text);
    check_connected(f->r[1].fds[0], f->r[0].fds[1]);
    close_fds(&f->r[0]);
    close_fds(&f->r[1]);
}

static void test_stranger_that_idles_is_closed_in_time(void **state)
{
    struct fixture *f = *state;
    uint8_t hello[HELLO_BYTES];
    open_mesh(&f->r[0], "127.0.0.1", KEY, SHORT_US, 0);
    open_ranks(f, 2, "127.0.0.1");
    make_hello(hello, TERM, GENERATION, 1, 0);
    for (size_t said = 0; said <= 1; said++) {
        int64_t start = gw_clock_mono_us();
        int fd = connect_to(gw_mesh_address(f->r[0].mesh));
        assert_int_equal(send(fd, hello, said, 0), said);
        assert_true(sees_end(fd));
        assert_true(gw_clock_mono_us() - start < DEADLINE_US / 2);
        close(fd);
    }
    check_mesh_works(f);
}

/* A byte now and then buys no time: the deadline is absolute. */
static void test_stranger_that_drips_is_closed_in_time(void **state)
{
    struct fixture *f = *state;
    const struct timeval pause = {.tv_usec = SHORT_US / 40};
    uint8_t hello[HELLO_BYTES], byte;
    open_mesh(&f->r[0], "127.0.0.1", KEY, SHORT_US / 3, 0);
    open_ranks(f, 2, "127.0.0.1");
    make_hello(hello, TERM, GENERATION, 1, 0);
    int fd = connect_to(gw_mesh_address(f->r[0].mesh));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &pause, sizeof pause);
    int sent = 0;
    while (sent < HELLO_BYTES - 1 && send(fd, &hello[sent], 1, MSG_NOSIGNAL) == 1 &&
           recv(fd, &byte, 1, 0) != 0)
        sent++;
    assert_true(sent < HELLO_BYTES - 1);
    close(fd);
    check_mesh_works(f);
}

static void test_stranger_with_a_false_hello_gets_no_challenge(void **state)
{
    static const struct {
        int at;
        uint8_t byte;
    } wrong[] = {{0, 'H'}, {24, 64}, {24, 0}, {27, 1}, {28, 1}, {31, 0x80}};
    struct fixture *f = *state;
    open_ranks(f, 2, "127.0.0.1");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint8_t hello[HELLO_BYTES];
        make_hello(hello, TERM, GENERATION, 1, 0);
        hello[wrong[i].at] = wrong[i].byte;
        int fd = connect_to(gw_mesh_address(f->r[0].mesh));
        assert_int_equal(send(fd, hello, sizeof hello, 0), sizeof hello);
        assert_true(sees_end(fd));
        close(fd);
    }
    check_mesh_works(f);
}

static void test_strangers_in_numbers_do_not_keep_a_rank_out(void **state)
{
    struct fixture *f = *state;
    static int fds[STRANGERS];
    open_ranks(f, 2, "127.0.0.1");
    for (int i = 0; i < STRANGERS; i++) fds[i] = connect_to(gw_mesh_address(f->r[0].mesh));
    check_mesh_works(f);
    assert_true(sees_end(fds[0])); /* the oldest made room */
    for (int i = 0; i < STRANGERS; i++) close(fds[i]);
}

/* More proven ones than there is room for: the oldest that nobody waits for goes. */
static void test_waiting_connections_beyond_the_maximum_push_out_the_oldest(void **state)
{
    struct fixture *f = *state;
    static int fds[GW_MESH_PENDING_MAX + 1];
    open_ranks(f, 2, "127.0.0.1");
    for (int i = 0; i <= GW_MESH_PENDING_MAX; i++) {
        fds[i] = dial_by_hand(&f->r[0], KEY, TERM, GENERATION + 1 + (uint64_t)i, 1, "");
        assert_true(fds[i] >= 0);
    }
    assert_true(sees_end(fds[0]));
    f->r[0].generation = GENERATION + 2;
    gather(&f->r[0]);
    assert_int_equal(f->r[0].err, GW_OK);
    check_connected(fds[1], f->r[0].fds[1]);
    close_fds(&f->r[0]);
    for (int i = 0; i <= GW_MESH_PENDING_MAX; i++) close(fds[i]);
}

/* Noise, in part behind a good HELLO: whatever comes back is a nonce at most, never a proof. */
static void say_noise(const struct rank *to, struct gw_rng *rng)
{
    uint8_t noise[HELLO_BYTES + FUZZ_BYTES], got[NONCE_BYTES + 1];
    make_hello(noise, TERM, GENERATION, 1, 0);
    size_t good = gw_rng_below(rng, 2) ? HELLO_BYTES : gw_rng_below(rng, HELLO_BYTES);
    size_t len = good + gw_rng_below(rng, FUZZ_BYTES);
    for (size_t i = good; i < len; i++) noise[i] = (uint8_t)gw_rng_next(rng);
    int fd = connect_to(gw_mesh_address(to->mesh));
    assert_int_equal(send(fd, noise, len, MSG_NOSIGNAL), len);
    shutdown(fd, SHUT_WR);
    assert_true(recv(fd, got, sizeof got, MSG_WAITALL) <= NONCE_BYTES);
    close(fd);
}

static void test_random_bytes_prove_nothing(void **state)
{
    struct fixture *f = *state;
    const char *given = getenv("GW_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    struct gw_rng rng;
    printf("# GW_TEST_SEED=%llu\n", (unsigned long long)seed);
    gw_rng_init(&rng, seed);
    open_ranks(f, 2, "127.0.0.1");
    for (int i = 0; i < FUZZ_ROUNDS; i++) say_noise(&f->r[0], &rng);
    check_mesh_works(f);
}

/* ---- create ---- */

static void test_create_bad_configuration_is_refused(void **state)
{
    (void)state;
    static const char key[5000] = {1};
    struct gw_mesh *mesh = NULL, *other = NULL;
    struct gw_mesh_config config = {.host = "127.0.0.1", .key = key, .key_len = sizeof key};
    assert_int_equal(gw_mesh_create(&config, &mesh, NULL), GW_ERR_INPUT);
    config.key_len = 0;
    assert_int_equal(gw_mesh_create(&config, &mesh, NULL), GW_ERR_INPUT);
    config.key_len = 16;
    config.host = "example.org";
    assert_int_equal(gw_mesh_create(&config, &mesh, NULL), GW_ERR_INPUT);
    config.host = "127.0.0.1";
    assert_null(mesh);
    assert_int_equal(gw_mesh_create(&config, &mesh, NULL), GW_OK);
    config.port = (uint16_t)strtoul(strrchr(gw_mesh_address(mesh), ':') + 1, NULL, 10);
    struct gw_err_ctx ctx = {0};
    assert_int_equal(gw_mesh_create(&config, &other, &ctx), GW_ERR_IO);
    assert_non_null(strstr(ctx.text, "data port"));
    gw_mesh_destroy(mesh);
    gw_mesh_destroy(NULL);
}

#define MESH_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MESH_TEST(test_gather_eight_ranks_connects_each_pair),
        MESH_TEST(test_gather_one_rank_is_complete_at_once),
        MESH_TEST(test_gather_after_the_dialer_finds_its_connection),
        MESH_TEST(test_gather_before_the_listener_exists_dials_again),
        MESH_TEST(test_gather_ipv6_reads_bracketed_addresses),
        MESH_TEST(test_gather_two_generations_at_once_are_kept_apart),
        MESH_TEST(test_gather_missing_dialer_is_named_at_the_deadline),
        MESH_TEST(test_gather_nobody_listens_names_rank_and_address),
        MESH_TEST(test_gather_address_that_is_none_is_refused),
        MESH_TEST(test_gather_listener_without_the_key_is_not_taken),
        MESH_TEST(test_gather_silent_listener_costs_no_more_than_the_deadline),
        MESH_TEST(test_gather_wrong_key_is_an_error_at_both_ends),
        MESH_TEST(test_cancel_from_another_thread_ends_a_gather),
        MESH_TEST(test_cancel_before_the_gather_ends_it_at_once),
        MESH_TEST(test_cancel_leaves_later_generations_alone),
        MESH_TEST(test_cancel_at_the_listener_keeps_dialers_out),
        MESH_TEST(test_set_term_ends_what_is_older),
        MESH_TEST(test_waiting_connection_nobody_gathers_is_closed_in_time),
        MESH_TEST(test_waiting_connection_of_a_gather_outlives_its_time),
        MESH_TEST(test_gather_two_of_a_pair_takes_the_newer),
        MESH_TEST(test_gather_peer_that_left_does_not_count),
        MESH_TEST(test_gather_peer_that_left_is_waited_for_again),
        MESH_TEST(test_gather_leaves_the_bytes_behind_the_handshake),
        MESH_TEST(test_stranger_that_idles_is_closed_in_time),
        MESH_TEST(test_stranger_that_drips_is_closed_in_time),
        MESH_TEST(test_stranger_with_a_false_hello_gets_no_challenge),
        MESH_TEST(test_strangers_in_numbers_do_not_keep_a_rank_out),
        MESH_TEST(test_waiting_connections_beyond_the_maximum_push_out_the_oldest),
        MESH_TEST(test_random_bytes_prove_nothing),
        MESH_TEST(test_create_bad_configuration_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
