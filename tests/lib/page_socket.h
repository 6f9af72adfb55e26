/* Raw ends of page connections for tests that say what they like: proven to hold the key, by the library's own handshake. */
#ifndef GW_TESTS_LIB_PAGE_SOCKET_H
#define GW_TESTS_LIB_PAGE_SOCKET_H

#include "tests/lib/page_fixture.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/sockaddr.h"
#include "migrate/peer_io.h"
#include "migrate/shake.h"

static inline bool say(int fd, const void *bytes, size_t len)
{
    struct iovec iov = {(void *)(uintptr_t)bytes, len};
    struct gw_socket socket = gw_socket_plain(fd);
    return gw_peer_io_writev(&socket, &iov, 1, gw_clock_mono_us() + PAGE_LATE_US, NULL) == GW_OK;
}

/* A byte, and again one, pause_us apart, until the other end closes. */
static inline void say_slowly(int fd, const uint8_t *bytes, size_t len, int64_t pause_us)
{
    const struct timespec pause = {.tv_nsec = pause_us * 1000};
    for (size_t i = 0; i < len && say(fd, bytes + i, 1); i++) ppoll(NULL, 0, &pause, NULL);
}

/* A listener on a free port of loopback. */
static inline int listen_local(char address[64])
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    snprintf(address, 64, "127.0.0.1:%u", ntohs(addr.sin_port));
    return fd;
}

static const struct gw_shake_key page_key = {PAGE_KEY, sizeof PAGE_KEY - 1};

static inline bool finish_handshake(struct gw_shake *s)
{
    enum gw_shake_result result = GW_SHAKE_MORE;
    while (result == GW_SHAKE_MORE) {
        if (gw_peer_io_wait(&s->socket, gw_shake_events(s), gw_clock_mono_us() + PAGE_LATE_US, NULL) != GW_OK)
            return false;
        result = gw_shake_step(s, &page_key);
    }
    return result == GW_SHAKE_PROVEN && (s->dials || gw_shake_admit(s, &page_key));
}

/* The listener's side of a connection that was accepted. */
static inline bool hear_handshake(int fd)
{
    struct gw_shake s;
    gw_shake_accept(&s, fd, GW_SHAKE_PAGES, &page_key, 0);
    return finish_handshake(&s);
}

/* The dialer's; it takes little at a time. */
static inline int connect_proven(const char *address)
{
    const struct gw_shake_pair pair = {7, 11, 3, 1, 0};
    const int small = 4096;
    struct sockaddr_storage addr;
    socklen_t len;
    char host[64];
    uint16_t port;
    struct gw_shake s;
    assert_int_equal(gw_sockaddr_split(address, host, sizeof host, &port, NULL), GW_OK);
    assert_int_equal(gw_sockaddr_parse(host, port, &addr, &len, NULL), GW_OK);
    assert_true(gw_shake_dial(&s, &addr, len, GW_SHAKE_PAGES, &pair, &page_key, 0));
    setsockopt(s.socket.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    assert_true(finish_handshake(&s));
    return s.socket.fd;
}

/* The other end closes, whatever it says before. */
static inline bool sees_end(int fd)
{
    uint8_t bytes[4096];
    ssize_t n;
    int64_t until_us = gw_clock_mono_us() + PAGE_LATE_US;
    do {
        const struct gw_socket socket = gw_socket_plain(fd);
        if (gw_peer_io_wait(&socket, POLLIN, until_us, NULL) != GW_OK) return false;
        n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    } while (n > 0 || (n < 0 && errno == EAGAIN));
    return true;
}

#endif
