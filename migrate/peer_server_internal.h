/* Peer server, inside: what its listening thread (peer_server.c) and those of its connections (peer_conn.c) share.
 *
 * One lock guards what is below it. A connection's socket is closed by the listening thread, after it has joined the
 * connection's: so nobody shuts down a number that is another socket's by now. */
#ifndef GW_MIGRATE_PEER_SERVER_INTERNAL_H
#define GW_MIGRATE_PEER_SERVER_INTERNAL_H

#include <pthread.h>

#include "migrate/peer_server.h"
#include "migrate/rate.h"
#include "migrate/shake.h"

#define PEER_ADDRESS_MAX 64 /* "[v6]:port" */

/* states: free (no socket) → running → over (its thread has ended) → free */
struct peer_conn {
    struct gw_peer_server *server;
    struct gw_socket socket;
    bool over;
    bool takes_cells; /* counted in the server's cell_peers */
    pthread_t thread;
};

struct gw_peer_server {
    /* constant after create */
    struct gw_peer_server_config config; /* with defaults filled in; key points to our copy */
    struct gw_shake_key key;
    char address[PEER_ADDRESS_MAX];
    int listen_fd, unix_fd, wake_fd; /* unix_fd -1: none */
    pthread_t thread;
    bool thread_started;

    /* the listening thread's own */
    struct gw_shake accepted[GW_PEER_PENDING_MAX]; /* none: free */
    int64_t accept_again_us;                       /* 0: accepts */
    int64_t tell_again_us;                         /* of strangers */

    pthread_mutex_t lock;
    pthread_cond_t stopped; /* monotonic clock */
    bool stopping;
    uint64_t term, cancelled; /* of this term: generations up to it */
    struct gw_rate rate, cell_rate;
    uint32_t cell_peers; /* connections that weights go to */
    struct gw_peer_server_stats stats;
    struct peer_conn conns[GW_PEER_CONNS_MAX];
};

/* A connection's thread; arg: the struct peer_conn. */
void *peer_conn_main(void *arg);

/* Counts a REQUEST or PULL. Is it of a term or generation that is over, or of another model? */
enum gw_page_status peer_server_judge(struct gw_peer_server *s, const struct gw_page_head *asked);

/* Reads the rest of a PULL whose head has come, has it done and answers. */
gw_err_t peer_conn_pull(struct gw_peer_server *s, struct gw_socket *socket,
                        const uint8_t head[GW_PAGE_HEAD_BYTES], const struct gw_page_head *asked,
                        int64_t deadline_us, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Reads the rest of a CELL_ASK whose head has come, and answers it. */
gw_err_t peer_conn_cells(struct peer_conn *c, const uint8_t head[GW_PAGE_HEAD_BYTES],
                         const struct gw_page_head *asked, int64_t deadline_us,
                         struct gw_err_ctx *ctx) GW_MUST_USE;

/* Waits until what went before at that rate (guarded by the server's lock) is paid for; false: the server stops. */
bool peer_server_wait_rate(struct gw_peer_server *s, const struct gw_rate *rate);

/* Makes the listening thread look at its connections. */
void peer_server_wake(struct gw_peer_server *s);

#endif
