/* What the tests and the bench of the collectives share: sockets between ranks, and a configuration for them. */
#ifndef GW_TESTS_LIB_COLL_FIXTURE_H
#define GW_TESTS_LIB_COLL_FIXTURE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernels/coll.h"

#define COLL_RANKS 8 /* in one test at most */

/* A connected pair of TCP sockets over loopback, or of AF_UNIX ones. */
static inline int coll_pair(bool tcp, int fds[2])
{
    if (!tcp) return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&at, &len) ||
        connect(fds[0], (struct sockaddr *)&at, sizeof at))
        return -1;
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    return fds[1] < 0 ? -1 : 0;
}

struct coll_mesh {
    struct gw_socket sockets[COLL_RANKS][COLL_RANKS]; /* [rank][the other]; none with itself */
};

static inline int coll_mesh_open(struct coll_mesh *mesh, uint32_t ranks, bool tcp)
{
    for (uint32_t a = 0; a < COLL_RANKS; a++)
        for (uint32_t b = 0; b < COLL_RANKS; b++) mesh->sockets[a][b] = gw_socket_none();
    for (uint32_t a = 0; a < ranks; a++)
        for (uint32_t b = a + 1; b < ranks; b++) {
            int pair[2];
            if (coll_pair(tcp, pair) != 0) return -1;
            mesh->sockets[a][b] = gw_socket_plain(pair[0]);
            mesh->sockets[b][a] = gw_socket_plain(pair[1]);
        }
    return 0;
}

/* Puts TLS over each pair, both ends in this thread. */
static inline int coll_mesh_secure(struct coll_mesh *mesh, uint32_t ranks, const struct gw_tls *tls)
{
    for (uint32_t a = 0; a < ranks; a++)
        for (uint32_t b = a + 1; b < ranks; b++) {
            struct gw_socket *ends[2] = {&mesh->sockets[b][a], &mesh->sockets[a][b]};
            short events[2] = {1, 1};
            const char *why = NULL;
            while (events[0] || events[1])
                for (int i = 0; i < 2; i++)
                    if (gw_socket_shake(ends[i], tls, i == 0, &events[i], &why) != GW_OK) return -1;
        }
    return 0;
}

/* Closes what rank `self` has no part in: for a process of its own. */
static inline void coll_mesh_keep(struct coll_mesh *mesh, uint32_t self)
{
    for (uint32_t a = 0; a < COLL_RANKS; a++)
        for (uint32_t b = 0; b < COLL_RANKS; b++)
            if (a != self) gw_socket_close(&mesh->sockets[a][b]);
}

/* One stage of all ranks. */
static inline struct gw_coll_config coll_config(const struct coll_mesh *mesh, uint32_t self, uint32_t ranks,
                                                uint32_t shares, const uint16_t *share_at, size_t max_elems)
{
    return (struct gw_coll_config){.term = 7,
                                   .generation = 3,
                                   .pipeline = 5,
                                   .self = self,
                                   .ranks = ranks,
                                   .sockets = mesh->sockets[self],
                                   .stage_ranks = ranks,
                                   .shares = shares,
                                   .share_at = share_at,
                                   .max_elems = max_elems,
                                   .deadline_us = 20 * GW_US_PER_S};
}

#endif
