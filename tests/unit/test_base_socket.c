/* base/socket.h, plain and under TLS alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/socket.h"

#define KEY     "a cluster key of some length"
#define LARGE   ((size_t)3 << 20)
#define LONG_US (20 * GW_US_PER_S) /* what should not pass */

/* Both ends of a connection in this process; tls NULL: plain. */
struct ends {
    struct gw_tls *tls;
    struct gw_socket a, b;
};

static struct ends open_ends(bool tls)
{
    int fds[2];
    struct ends e = {0};
    const struct gw_tls_config config = {.key = KEY, .key_len = strlen(KEY), .everywhere = true};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds),
                     0); /* blocking: nothing may block */
    e.a = gw_socket_plain(fds[0]);
    e.b = gw_socket_plain(fds[1]);
    if (!tls) return e;
    assert_int_equal(gw_tls_create(&config, &e.tls, NULL), GW_OK);
    short a_events = 1, b_events = 1;
    const char *why = "";
    for (int turn = 0; turn < 16 && (a_events || b_events); turn++) {
        assert_int_equal(gw_socket_shake(&e.a, e.tls, true, &a_events, &why), GW_OK);
        assert_int_equal(gw_socket_shake(&e.b, e.tls, false, &b_events, &why), GW_OK);
    }
    assert_int_equal(a_events | b_events, 0);
    return e;
}

static void close_ends(struct ends *e)
{
    gw_socket_close(&e->a);
    gw_socket_close(&e->b);
    gw_tls_destroy(e->tls);
}

#define BOTH_KINDS(e) for (int kind = 0; kind < 2; kind++, close_ends(&e))

static void test_readv_nothing_there_is_no_bytes_and_no_wait(void **state)
{
    (void)state;
    struct ends e;
    BOTH_KINDS(e)
    {
        uint8_t byte;
        size_t n = 1;
        e = open_ends(kind);
        assert_int_equal(gw_socket_read(&e.a, &byte, 1, &n, NULL), GW_OK);
        assert_int_equal(n, 0);
        assert_false(gw_socket_has_more(&e.a));
        assert_false(gw_socket_is_closed(&e.a));
    }
}

static void test_readv_pieces_are_gathered_and_scattered(void **state)
{
    (void)state;
    struct ends e;
    BOTH_KINDS(e)
    {
        char first[3], second[6] = "";
        struct iovec out[] = {{"ab", 2}, {"", 0}, {"cdefgh", 6}}, in[] = {{first, 3}, {second, 5}};
        size_t n;
        e = open_ends(kind);
        assert_int_equal(gw_socket_writev(&e.a, out, 3, MSG_MORE, &n, NULL), GW_OK);
        assert_int_equal(n, 8);
        assert_int_equal(gw_socket_readv(&e.b, in, 2, &n, NULL), GW_OK);
        assert_int_equal(n, 8);
        assert_memory_equal(first, "abc", 3);
        assert_string_equal(second, "defgh");
    }
}

static void test_readv_closed_peer_is_an_error_behind_its_bytes(void **state)
{
    (void)state;
    struct ends e;
    BOTH_KINDS(e)
    {
        struct gw_err_ctx ctx = {0};
        struct iovec out = {"the end", 7};
        char got[8] = "";
        size_t n;
        e = open_ends(kind);
        assert_int_equal(gw_socket_writev(&e.a, &out, 1, 0, &n, NULL), GW_OK);
        gw_socket_close(&e.a);
        assert_int_equal(e.a.fd, -1);
        assert_false(gw_socket_is_closed(&e.b)); /* bytes wait */
        assert_int_equal(gw_socket_read(&e.b, got, 7, &n, NULL), GW_OK);
        assert_string_equal(got, "the end");
        assert_true(gw_socket_is_closed(&e.b));
        assert_int_equal(gw_socket_read(&e.b, got, 7, &n, &ctx), GW_ERR_IO);
        assert_string_equal(ctx.text, "the peer closed the connection");
        assert_int_equal(gw_socket_writev(&e.b, &out, 1, 0, &n, NULL), GW_ERR_IO);
    }
}

/* More than a socket takes at once, from a buffer of many small pieces. */
static void test_flush_large_buffer_goes_as_the_peer_reads(void **state)
{
    (void)state;
    struct ends e;
    BOTH_KINDS(e)
    {
        struct evbuffer *out = evbuffer_new();
        uint8_t *sent = malloc(LARGE), *got = malloc(LARGE);
        int64_t end_us = gw_clock_mono_us() + LONG_US;
        size_t flushed = 0, read = 0, n;
        e = open_ends(kind);
        for (size_t i = 0; i < LARGE; i++) sent[i] = (uint8_t)(i * 2654435761u >> 13);
        for (size_t at = 0; at < LARGE; at += n) {
            n = at % 7919 + 1 < LARGE - at ? at % 7919 + 1 : LARGE - at;
            evbuffer_add_reference(out, sent + at, n, NULL, NULL);
        }
        assert_int_equal(gw_socket_flush(&e.a, out, &n, NULL), GW_OK);
        assert_true(n > 0 && n < LARGE);
        for (flushed = n; read < LARGE && gw_clock_mono_us() < end_us; read += n) {
            assert_int_equal(gw_socket_read(&e.b, got + read, LARGE - read, &n, NULL), GW_OK);
            size_t more;
            assert_int_equal(gw_socket_flush(&e.a, out, &more, NULL), GW_OK);
            flushed += more;
        }
        assert_int_equal(flushed, LARGE);
        assert_int_equal(evbuffer_get_length(out), 0);
        assert_memory_equal(got, sent, LARGE);
        evbuffer_free(out);
        free(sent);
        free(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readv_nothing_there_is_no_bytes_and_no_wait),
        cmocka_unit_test(test_readv_pieces_are_gathered_and_scattered),
        cmocka_unit_test(test_readv_closed_peer_is_an_error_behind_its_bytes),
        cmocka_unit_test(test_flush_large_buffer_goes_as_the_peer_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
