/* Relay: a TCP relay on loopback between a client and a server, which does wrong at one byte of what the server says. */
#ifndef GW_TESTS_LIB_RELAY_H
#define GW_TESTS_LIB_RELAY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/sockaddr.h"

#define RELAY_PAIRS 8

enum relay_wrong { RELAY_PASSES, RELAY_FLIPS, RELAY_STOPS, RELAY_CLOSES };

struct relay {
    atomic_int wrong; /* enum relay_wrong */
    size_t at;        /* byte of each connection, from the server's first on */
    int listen_fd;
    char address[64];
    struct sockaddr_storage target;
    socklen_t target_len;
    pthread_t thread;
    atomic_bool ending;
    atomic_int accepted;
    struct relay_pair {
        int client, server; /* -1: free */
        size_t said;        /* by the server */
        bool stopped;
    } pairs[RELAY_PAIRS];
};

static inline void relay_hang_up(struct relay_pair *p)
{
    close(p->client);
    close(p->server);
    p->client = p->server = -1;
}

static inline void relay_accept(struct relay *r)
{
    int client = accept(r->listen_fd, NULL, NULL);
    int server = socket(r->target.ss_family, SOCK_STREAM, 0);
    atomic_fetch_add(&r->accepted, 1);
    for (int i = 0; i < RELAY_PAIRS && client >= 0; i++) {
        if (r->pairs[i].client >= 0) continue;
        if (connect(server, (struct sockaddr *)&r->target, r->target_len) != 0) break;
        r->pairs[i] = (struct relay_pair){.client = client, .server = server};
        return;
    }
    close(client);
    close(server);
}

/* Passes on what there is; false: the connection is over. */
static inline bool relay_pass(struct relay *r, struct relay_pair *p, bool from_server)
{
    uint8_t bytes[16384];
    int from = from_server ? p->server : p->client, to = from_server ? p->client : p->server;
    ssize_t n = recv(from, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n <= 0) return false;
    size_t len = (size_t)n;
    bool here = from_server && r->at >= p->said && r->at < p->said + len;
    int wrong = atomic_load(&r->wrong);
    if (here && wrong == RELAY_FLIPS) bytes[r->at - p->said] ^= 0x10;
    if (here && wrong >= RELAY_STOPS) len = r->at - p->said;
    if (here && wrong == RELAY_STOPS) p->stopped = true;
    if (from_server) p->said += (size_t)n;
    for (size_t done = 0; done < len;) {
        ssize_t sent = send(to, bytes + done, len - done, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        done += (size_t)sent;
    }
    return !(here && wrong == RELAY_CLOSES);
}

static inline void *relay_main(void *arg)
{
    struct relay *r = arg;
    while (!atomic_load(&r->ending)) {
        struct pollfd polled[1 + 2 * RELAY_PAIRS] = {{r->listen_fd, POLLIN, 0}};
        for (int i = 0; i < RELAY_PAIRS; i++) {
            struct relay_pair *p = &r->pairs[i];
            polled[1 + 2 * i] = (struct pollfd){p->client, POLLIN, 0};
            polled[2 + 2 * i] = (struct pollfd){p->stopped ? -1 : p->server, POLLIN, 0};
        }
        if (poll(polled, 1 + 2 * RELAY_PAIRS, 20) <= 0) continue;
        if (polled[0].revents) relay_accept(r);
        for (int i = 0; i < RELAY_PAIRS; i++) {
            struct relay_pair *p = &r->pairs[i];
            bool goes_on = true;
            if (polled[1 + 2 * i].revents && p->client >= 0) goes_on = relay_pass(r, p, false);
            if (goes_on && polled[2 + 2 * i].revents && p->client >= 0) goes_on = relay_pass(r, p, true);
            if (!goes_on) relay_hang_up(p);
        }
    }
    return NULL;
}

/* Whoever connects to r->address talks to the target. */
static inline void relay_open(struct relay *r, const char *target, enum relay_wrong wrong, size_t at)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    char host[64];
    uint16_t port;
    memset(r, 0, sizeof *r);
    atomic_init(&r->wrong, wrong);
    r->at = at;
    for (int i = 0; i < RELAY_PAIRS; i++) r->pairs[i].client = r->pairs[i].server = -1;
    assert_int_equal(gw_sockaddr_split(target, host, sizeof host, &port, NULL), GW_OK);
    assert_int_equal(gw_sockaddr_parse(host, port, &r->target, &r->target_len, NULL), GW_OK);
    r->listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(r->listen_fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(listen(r->listen_fd, RELAY_PAIRS), 0);
    assert_int_equal(getsockname(r->listen_fd, (struct sockaddr *)&addr, &len), 0);
    snprintf(r->address, sizeof r->address, "127.0.0.1:%u", ntohs(addr.sin_port));
    assert_int_equal(pthread_create(&r->thread, NULL, relay_main, r), 0);
}

static inline void relay_close(struct relay *r)
{
    atomic_store(&r->ending, true);
    pthread_join(r->thread, NULL);
    for (int i = 0; i < RELAY_PAIRS; i++)
        if (r->pairs[i].client >= 0) relay_hang_up(&r->pairs[i]);
    close(r->listen_fd);
}

#endif
