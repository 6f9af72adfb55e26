/* base/tls.h over pairs of unix sockets, both ends in this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/socket.h"

#define KEY        "a cluster key of some length"
#define OTHER      "a cluster key of such length"
#define TURNS_MAX  64
#define LARGE      ((size_t)6 << 20)
#define PIECES_MAX 24
#define LONG_US    (20 * GW_US_PER_S) /* what should not pass */
#define SHORT_US   (30 * GW_US_PER_MS)

enum { DIALER, LISTENER };

struct ends {
    struct gw_tls *tls[2];
    struct gw_socket s[2];
    gw_err_t err[2];
    const char *why[2];
};

static struct gw_tls *make_tls(const char *key, uint64_t rekey_bytes)
{
    struct gw_tls *tls = NULL;
    const struct gw_tls_config config = {
        .key = key, .key_len = strlen(key), .everywhere = true, .rekey_bytes = rekey_bytes};
    assert_int_equal(gw_tls_create(&config, &tls, NULL), GW_OK);
    return tls;
}

static struct ends open_ends(const char *dialer_key, const char *listener_key, uint64_t rekey_bytes)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    return (struct ends){.tls = {make_tls(dialer_key, rekey_bytes), make_tls(listener_key, rekey_bytes)},
                         .s = {gw_socket_plain(fds[0]), gw_socket_plain(fds[1])},
                         .why = {"", ""}};
}

static void close_ends(struct ends *e)
{
    for (int i = 0; i < 2; i++) {
        gw_socket_close(&e->s[i]);
        gw_tls_destroy(e->tls[i]);
    }
}

/* One end's step; true: it goes on. One that fails closes its side, as all callers do. */
static bool step(struct ends *e, int i)
{
    short events = 0;
    if (e->err[i] != GW_OK) return false;
    e->err[i] = gw_socket_shake(&e->s[i], e->tls[i], i == DIALER, &events, &e->why[i]);
    if (e->err[i] != GW_OK) shutdown(e->s[i].fd, SHUT_RDWR);
    return e->err[i] == GW_OK && events != 0;
}

static void shake(struct ends *e)
{
    bool goes_on = true;
    for (int turn = 0; goes_on && turn < TURNS_MAX; turn++) {
        bool dialer = step(e, DIALER), listener = step(e, LISTENER);
        goes_on = dialer || listener;
    }
    assert_false(goes_on);
}

static struct ends open_shaken(uint64_t rekey_bytes)
{
    struct ends e = open_ends(KEY, KEY, rekey_bytes);
    shake(&e);
    for (int i = 0; i < 2; i++)
        if (e.err[i] != GW_OK) fail_msg("end %d: %s", i, e.why[i]);
    return e;
}

static size_t send_some(struct gw_socket *s, const void *bytes, size_t len)
{
    struct gw_err_ctx ctx = {0};
    struct iovec one = {(void *)(uintptr_t)bytes, len};
    size_t wrote = 0;
    if (gw_socket_writev(s, &one, 1, 0, &wrote, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    return wrote;
}

static void send_text(struct gw_socket *s, const char *text)
{
    assert_int_equal(send_some(s, text, strlen(text)), strlen(text));
}

static void check_reads(struct gw_socket *s, const char *text)
{
    char got[64] = "";
    size_t n = 0;
    assert_int_equal(gw_socket_read(s, got, sizeof got - 1, &n, NULL), GW_OK);
    assert_string_equal(got, text);
    assert_int_equal(n, strlen(text));
}

static bool raw_bytes_wait(int fd)
{
    uint8_t byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* ---- handshakes ---- */

static void test_shake_same_key_opens_both_ways(void **state)
{
    (void)state;
    struct ends e = open_shaken(0);
    send_text(&e.s[DIALER], "to the listener");
    check_reads(&e.s[LISTENER], "to the listener");
    send_text(&e.s[LISTENER], "and back");
    check_reads(&e.s[DIALER], "and back");
    close_ends(&e);
}

/* What the mesh and kept connections rely on: an idle socket has no bytes of the session's own. */
static void test_shake_over_leaves_the_sockets_empty(void **state)
{
    (void)state;
    struct ends e = open_shaken(0);
    for (int i = 0; i < 2; i++) {
        size_t n = 1;
        uint8_t byte;
        assert_false(raw_bytes_wait(e.s[i].fd));
        assert_int_equal(gw_socket_read(&e.s[i], &byte, 1, &n, NULL), GW_OK);
        assert_int_equal(n, 0);
        assert_false(gw_socket_is_closed(&e.s[i]));
    }
    close_ends(&e);
}

static void test_shake_wrong_key_is_named_by_both_ends(void **state)
{
    (void)state;
    struct ends e = open_ends(KEY, OTHER, 0);
    shake(&e);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(e.err[i], GW_ERR_PROTO);
        assert_non_null(strstr(e.why[i], "does not hold the cluster key"));
    }
    close_ends(&e);
}

static void test_shake_plaintext_peer_is_named(void **state)
{
    static const char *const words[] = {"GWM1 and forty-four bytes that a rank would say first",
                                        "GET / HTTP/1.1\r\nHost: a\r\n\r\n"};
    (void)state;
    for (int i = 0; i < 2; i++)
        for (size_t w = 0; w < sizeof words / sizeof *words; w++) {
            struct ends e = open_ends(KEY, KEY, 0);
            struct gw_socket plain = gw_socket_plain(e.s[1 - i].fd);
            send_text(&plain, words[w]);
            while (step(&e, i)) continue;
            assert_int_equal(e.err[i], GW_ERR_PROTO);
            assert_non_null(strstr(e.why[i], "speaks plaintext"));
            close_ends(&e);
        }
}

/* What a plaintext listener reads of a dialer with TLS. */
static void test_is_record_client_hello_is_known(void **state)
{
    (void)state;
    uint8_t got[5];
    struct ends e = open_ends(KEY, KEY, 0);
    assert_true(step(&e, DIALER));
    assert_int_equal(recv(e.s[LISTENER].fd, got, sizeof got, MSG_WAITALL), sizeof got);
    assert_true(gw_tls_is_record(got, sizeof got));
    assert_false(gw_tls_is_record(got, 1));
    assert_false(gw_tls_is_record((const uint8_t *)"GWP1", 4));
    close_ends(&e);
}

/* A peer that closes instead of an answer may be of either kind. */
static void test_shake_peer_that_closes_is_told(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct ends e = open_ends(KEY, KEY, 0);
        shutdown(e.s[1 - i].fd, SHUT_RDWR);
        while (step(&e, i)) continue;
        assert_int_equal(e.err[i], GW_ERR_IO);
        assert_non_null(strstr(e.why[i], "closed"));
        close_ends(&e);
    }
}

static void test_shake_until_peer_that_stops_halfway_is_late(void **state)
{
    (void)state;
    uint8_t hello[2048];
    struct ends e = open_ends(KEY, KEY, 0);
    struct gw_err_ctx ctx = {0};
    assert_true(step(&e, DIALER));
    ssize_t n = recv(e.s[LISTENER].fd, hello, sizeof hello, 0);
    assert_true(n > 100);
    /* The listener gets half of it, over a connection of its own. */
    struct ends half = open_ends(KEY, KEY, 0);
    assert_int_equal(send(half.s[DIALER].fd, hello, (size_t)n / 2, 0), n / 2);
    assert_int_equal(gw_socket_shake_until(&half.s[LISTENER], half.tls[LISTENER], false,
                                           gw_clock_mono_us() + SHORT_US, &ctx),
                     GW_ERR_LIMIT);
    assert_non_null(strstr(ctx.text, "in time"));
    /* And the dialer no answer at all. */
    assert_int_equal(
        gw_socket_shake_until(&e.s[DIALER], e.tls[DIALER], true, gw_clock_mono_us() + SHORT_US, NULL),
        GW_ERR_LIMIT);
    close_ends(&half);
    close_ends(&e);
}

static void test_shake_garbage_is_refused(void **state)
{
    (void)state;
    struct gw_rng rng;
    gw_rng_init(&rng, 7);
    for (int round = 0; round < 300; round++) {
        uint8_t garbage[600];
        struct ends e = open_ends(KEY, KEY, 0);
        int victim = round % 2;
        for (size_t i = 0; i < sizeof garbage; i++) garbage[i] = (uint8_t)gw_rng_next(&rng);
        if (round % 3 == 0) memcpy(garbage, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
        if (round % 3 == 1) memcpy(garbage, "\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03", 11);
        assert_true(send(e.s[1 - victim].fd, garbage, sizeof garbage, 0) > 0);
        shutdown(e.s[1 - victim].fd, SHUT_WR);
        for (int turn = 0; turn < TURNS_MAX && step(&e, victim); turn++) continue;
        assert_int_not_equal(e.err[victim], GW_OK);
        assert_true(strlen(e.why[victim]) > 0);
        close_ends(&e);
    }
}

/* A client of TLS 1.3 that was told no key, and one of TLS 1.2: there is no certificate for them. */
static void test_shake_client_without_key_is_refused(void **state)
{
    static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct ends e = open_ends(KEY, KEY, 0);
        SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        assert_int_equal(SSL_CTX_set_max_proto_version(ctx, versions[v]), 1);
        SSL *ssl = SSL_new(ctx);
        BIO *hello = BIO_new(BIO_s_mem());
        BIO *answer = BIO_new(BIO_s_mem());
        char *bytes;
        SSL_set_bio(ssl, answer, hello);
        assert_int_not_equal(SSL_connect(ssl), 1);
        long n = BIO_get_mem_data(hello, &bytes);
        assert_int_equal(send(e.s[DIALER].fd, bytes, (size_t)n, 0), n);
        while (step(&e, LISTENER)) continue;
        assert_int_equal(e.err[LISTENER], GW_ERR_PROTO);
        SSL_free(ssl);
        SSL_CTX_free(ctx);
        close_ends(&e);
    }
}

/* ---- bytes ---- */

/* Reads what is there in an odd number of odd pieces, and checks it. Returns how much it was. */
static size_t read_pieces(struct gw_socket *s, struct gw_rng *rng, const uint8_t *want, size_t max)
{
    static uint8_t to[PIECES_MAX * 40000];
    struct gw_err_ctx ctx = {0};
    struct iovec iov[PIECES_MAX];
    uint32_t len = 1 + (uint32_t)(gw_rng_next(rng) % PIECES_MAX);
    size_t room = 0, got = 0;
    for (uint32_t i = 0; i < len; i++) {
        size_t n = gw_rng_next(rng) % (i % 2 ? 40000 : 50);
        iov[i] = (struct iovec){to + room, n};
        room += n;
    }
    if (gw_socket_readv(s, iov, len, &got, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    assert_true(got <= room && got <= max);
    assert_memory_equal(to, want, got);
    return got;
}

/* Writes the next bytes in odd pieces; each call has them at another place, as a backlog has. */
static size_t write_pieces(struct gw_socket *s, struct gw_rng *rng, const uint8_t *from, size_t left)
{
    struct gw_err_ctx ctx = {0};
    struct iovec iov[PIECES_MAX];
    uint32_t len = 0;
    size_t bytes = 0, wrote = 0;
    for (; len < PIECES_MAX && bytes < left; len++) {
        size_t n = gw_rng_next(rng) % (len % 2 ? 50000 : 90);
        if (len + 1 == PIECES_MAX || n > left - bytes) n = left - bytes;
        iov[len] = (struct iovec){(void *)(uintptr_t)(from + bytes), n};
        bytes += n;
    }
    uint8_t *copy = malloc(bytes + 1);
    memcpy(copy, from, bytes);
    for (uint32_t i = 0; i < len; i++) iov[i].iov_base = copy + ((uint8_t *)iov[i].iov_base - from);
    if (gw_socket_writev(s, iov, len, 0, &wrote, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    free(copy);
    assert_true(wrote <= bytes);
    return wrote;
}

static void move_large(struct ends *e, uint64_t seed)
{
    struct gw_rng rng;
    gw_rng_init(&rng, seed);
    uint8_t *bytes = malloc(LARGE);
    size_t wrote = 0, got = 0;
    for (size_t i = 0; i < LARGE; i++) bytes[i] = (uint8_t)gw_rng_next(&rng);
    while (got < LARGE) {
        if (wrote < LARGE) wrote += write_pieces(&e->s[DIALER], &rng, bytes + wrote, LARGE - wrote);
        size_t n = read_pieces(&e->s[LISTENER], &rng, bytes + got, LARGE - got);
        /* Whatever the session keeps, it says so: else poll would have to show it. */
        assert_true(n > 0 || wrote < LARGE || gw_socket_has_more(&e->s[LISTENER]) ||
                    raw_bytes_wait(e->s[LISTENER].fd));
        got += n;
    }
    assert_int_equal(wrote, LARGE);
    free(bytes);
}

static void test_writev_large_in_odd_pieces_arrives_whole(void **state)
{
    (void)state;
    struct ends e = open_shaken(0);
    move_large(&e, 11);
    close_ends(&e);
}

static void test_writev_fresh_keys_underway_arrive_whole(void **state)
{
    (void)state;
    struct ends e = open_shaken(100000);
    move_large(&e, 12);
    send_text(&e.s[LISTENER], "whose keys are its own affair");
    check_reads(&e.s[DIALER], "whose keys are its own affair");
    close_ends(&e);
}

static void test_writev_small_pieces_share_a_record(void **state)
{
    (void)state;
    uint8_t raw[256];
    struct ends e = open_shaken(0);
    struct iovec iov[] = {{"head", 4}, {"", 0}, {"table", 5}, {"payload", 7}};
    size_t wrote = 0;
    assert_int_equal(gw_socket_writev(&e.s[DIALER], iov, 4, 0, &wrote, NULL), GW_OK);
    assert_int_equal(wrote, 16);
    /* One record: 5 bytes of head, what was written, its type, the tag of AES-GCM. */
    assert_int_equal(recv(e.s[LISTENER].fd, raw, sizeof raw, MSG_PEEK), 5 + 16 + 1 + 16);
    assert_null(memmem(raw, sizeof raw, "payload", 7));
    check_reads(&e.s[LISTENER], "headtablepayload");
    close_ends(&e);
}

static void test_has_more_bytes_in_the_session_are_told(void **state)
{
    (void)state;
    char some[4];
    size_t n;
    struct ends e = open_shaken(0);
    send_text(&e.s[DIALER], "one record, ");
    send_text(&e.s[DIALER], "and another");
    assert_int_equal(gw_socket_read(&e.s[LISTENER], some, sizeof some, &n, NULL), GW_OK);
    assert_int_equal(n, sizeof some);
    assert_false(raw_bytes_wait(e.s[LISTENER].fd)); /* poll would wait for ever */
    assert_true(gw_socket_has_more(&e.s[LISTENER]));
    check_reads(&e.s[LISTENER], "record, and another");
    assert_false(gw_socket_has_more(&e.s[LISTENER]));
    close_ends(&e);
}

static void test_readv_half_closed_peer_is_read_to_its_end_and_answered(void **state)
{
    (void)state;
    uint8_t byte;
    size_t n;
    struct gw_err_ctx ctx = {0};
    struct ends e = open_shaken(0);
    send_text(&e.s[DIALER], "the last words");
    shutdown(e.s[DIALER].fd, SHUT_WR);
    check_reads(&e.s[LISTENER], "the last words");
    assert_int_equal(gw_socket_read(&e.s[LISTENER], &byte, 1, &n, &ctx), GW_ERR_IO);
    assert_string_equal(ctx.text, "the peer closed the connection");
    send_text(&e.s[LISTENER], "heard");
    check_reads(&e.s[DIALER], "heard");
    close_ends(&e);
}

static void test_readv_garbage_after_the_handshake_is_refused(void **state)
{
    (void)state;
    static const char *const garbage[] = {"nothing of a record at all, but long enough to be one",
                                          "\x17\x03\x03\x00\x20................................",
                                          "\x17\x03\x03\xff\xff................................"};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        uint8_t got[16];
        size_t n;
        struct ends e = open_shaken(0);
        size_t len = i == 0 ? strlen(garbage[i]) : 5 + 32;
        assert_int_equal(send(e.s[DIALER].fd, garbage[i], len, 0), len);
        assert_int_equal(gw_socket_read(&e.s[LISTENER], got, sizeof got, &n, NULL), GW_ERR_PROTO);
        assert_int_equal(n, 0);
        assert_int_not_equal(gw_socket_read(&e.s[LISTENER], got, sizeof got, &n, NULL), GW_OK);
        close_ends(&e);
    }
}

/* A record that was changed on its way, or comes a second time. */
static void test_readv_changed_or_repeated_record_is_refused(void **state)
{
    (void)state;
    for (int repeated = 0; repeated < 2; repeated++) {
        uint8_t raw[128], got[64];
        size_t n;
        struct ends e = open_shaken(0);
        send_text(&e.s[DIALER], "worth changing");
        ssize_t len = recv(e.s[LISTENER].fd, raw, sizeof raw, 0);
        assert_true(len > 14);
        if (!repeated) raw[12] ^= 1;
        for (int i = 0; i <= repeated; i++) assert_int_equal(send(e.s[DIALER].fd, raw, (size_t)len, 0), len);
        if (repeated) check_reads(&e.s[LISTENER], "worth changing");
        assert_int_equal(gw_socket_read(&e.s[LISTENER], got, sizeof got, &n, NULL), GW_ERR_PROTO);
        close_ends(&e);
    }
}

static void test_writev_closed_peer_fails(void **state)
{
    (void)state;
    struct ends e = open_shaken(0);
    gw_socket_close(&e.s[LISTENER]);
    struct iovec one = {"into nothing", 12};
    size_t wrote;
    assert_int_equal(gw_socket_writev(&e.s[DIALER], &one, 1, 0, &wrote, NULL), GW_ERR_IO);
    assert_true(gw_socket_is_closed(&e.s[DIALER]));
    close_ends(&e);
}

/* ---- when it is due ---- */

static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage out = {0};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        memcpy(&out, &v4, sizeof v4);
    else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
        memcpy(&out, &v6, sizeof v6);
    else
        out.ss_family = AF_UNIX;
    return out;
}

static void test_is_due_off_loopback_alone(void **state)
{
    static const struct {
        const char *text;
        bool due;
    } cases[] = {{"127.0.0.1", false}, {"127.3.2.1", false},         {"::1", false},
                 {"unix", false},      {"::ffff:127.0.0.1", false},  {"10.0.0.1", true},
                 {"0.0.0.0", true},    {"::ffff:10.0.0.1", true},    {"fe80::1", true},
                 {"128.0.0.1", true},  {"::ffff:0:127.0.0.1", true}, {"2001:db8::7f00:1", true}};
    (void)state;
    struct gw_tls *tls, *everywhere = make_tls(KEY, 0);
    const struct gw_tls_config config = {.key = KEY, .key_len = strlen(KEY)};
    assert_int_equal(gw_tls_create(&config, &tls, NULL), GW_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sockaddr_storage addr = address(cases[i].text);
        if (gw_tls_is_due(tls, &addr) != cases[i].due) fail_msg("%s", cases[i].text);
        assert_true(gw_tls_is_due(everywhere, &addr));
        assert_false(gw_tls_is_due(NULL, &addr)); /* --insecure-plaintext */
    }
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_false(gw_tls_is_due_at(tls, fds[0]));
    assert_true(gw_tls_is_due_at(everywhere, fds[0]));
    assert_false(gw_tls_is_due_at(NULL, fds[0]));
    close(fds[0]);
    close(fds[1]);
    gw_tls_destroy(everywhere);
    gw_tls_destroy(tls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shake_same_key_opens_both_ways),
        cmocka_unit_test(test_shake_over_leaves_the_sockets_empty),
        cmocka_unit_test(test_shake_wrong_key_is_named_by_both_ends),
        cmocka_unit_test(test_shake_plaintext_peer_is_named),
        cmocka_unit_test(test_is_record_client_hello_is_known),
        cmocka_unit_test(test_shake_peer_that_closes_is_told),
        cmocka_unit_test(test_shake_until_peer_that_stops_halfway_is_late),
        cmocka_unit_test(test_shake_garbage_is_refused),
        cmocka_unit_test(test_shake_client_without_key_is_refused),
        cmocka_unit_test(test_writev_large_in_odd_pieces_arrives_whole),
        cmocka_unit_test(test_writev_fresh_keys_underway_arrive_whole),
        cmocka_unit_test(test_writev_small_pieces_share_a_record),
        cmocka_unit_test(test_has_more_bytes_in_the_session_are_told),
        cmocka_unit_test(test_readv_half_closed_peer_is_read_to_its_end_and_answered),
        cmocka_unit_test(test_readv_garbage_after_the_handshake_is_refused),
        cmocka_unit_test(test_readv_changed_or_repeated_record_is_refused),
        cmocka_unit_test(test_writev_closed_peer_fails),
        cmocka_unit_test(test_is_due_off_loopback_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
