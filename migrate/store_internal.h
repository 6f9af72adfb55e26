/* What the sources of the stores share: calls and their ops, servers, and the table that a protocol fills in.
 *
 * A call (of the user) is one op per name; an op is one command to one server. Life of an op:
 *
 *     QUEUED ──► SENT ──► OVER        its answer came
 *        └─────────┴────► OVER        deadline, connection lost, end: the call is done; the slot of a SENT one stays in the
 *                                     server's window without an op until its answer, for answers come in order
 *
 * Life of a server (state, what ends it):
 *
 *     AWAY      until due_us, then dialed (a server without an address: until a socket is attached)
 *     DIALING   connected, TLS open where it is wanted → GREETING      refused, late → AWAY
 *     GREETING  the protocol says that it is ready → UP      refused, late → AWAY
 *     UP        broken, garbage, no answer for stall_us → AWAY
 *
 * Ops are routed to servers that are UP, or that are being tried for the first time; when there is none they are LOST at
 * once. What a server that goes AWAY had is LOST. Backing off starts anew after the first good answer, not with the
 * connection: a server that greets and then refuses everything is not hammered.
 *
 * Lock: store->lock guards inbox, ending, counters; everything else is the I/O thread's. */
#ifndef GW_MIGRATE_STORE_INTERNAL_H
#define GW_MIGRATE_STORE_INTERNAL_H

#include <event2/buffer.h>
#include <event2/event.h>
#include <pthread.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/socket.h"
#include "migrate/store.h"

#define STORE_SERVERS_MAX 16
#define STORE_WINDOW_OPS  512
/* Sent or asked for, not answered, when another command goes out: 3 ms of a server at 3 GB/s. Of much more, what a server
 * has copied for its answers leaves its cache before it is sent. */
#define STORE_WINDOW_BYTES   ((size_t)8 << 20)
#define STORE_BACKOFF_MIN_US 50000       /* a server that restarts is found at once */
#define STORE_BACKOFF_MAX_US 2000000     /* one that is gone is not hammered */
#define STORE_FULL_PAUSE_US  1000000     /* after "full": what would be refused is not even sent */
#define STORE_CHUNK_BYTES    (64u << 10) /* of one read(2): it stays in the cache until it has been looked at */
#define STORE_ADDRESS_MAX    108         /* a unix socket's path */

enum store_verb { STORE_PUT, STORE_GET, STORE_HAS };
enum store_op_state { OP_QUEUED, OP_SENT, OP_OVER };

struct store_slot;
struct store_server;

struct store_op {
    struct store_call *call;
    uint32_t index; /* which name of a has */
    enum store_op_state state;
    struct gw_block_name name;
    struct store_server *server;
    struct store_slot *slot; /* of a SENT op */
    TAILQ_ENTRY(store_op) queued;
};
TAILQ_HEAD(store_ops, store_op);

struct store_call {
    struct gw_store *store;
    enum store_verb verb;
    struct gw_store_then then;
    int64_t begun_us;
    size_t bytes; /* of its pages */
    enum gw_store_outcome outcome;
    struct gw_store_page *pages; /* has: one, of which only the id counts */
    uint32_t pages_len;
    bool *got; /* [got_len] */
    uint32_t got_len;
    struct store_op *ops; /* [ops_len] */
    uint32_t ops_len, ops_left;
    TAILQ_ENTRY(store_call) all;
};
TAILQ_HEAD(store_calls, store_call);

/* A command on the wire, oldest first in the server's window. */
struct store_slot {
    struct store_op *op; /* NULL: nobody waits for it any more */
    enum store_verb verb;
    uint32_t pages_len;
    size_t bytes;
};

/* How one kind of server is spoken to. All on the I/O thread; state is the server's. */
struct store_protocol {
    /* A connection begins: forget what the last one left, say hello into out. */
    gw_err_t (*greet)(void *state, struct evbuffer *out);
    /* Appends the command of op to out, whole or (on error) not at all. */
    gw_err_t (*encode)(void *state, const struct store_op *op, struct evbuffer *out);
    /* Bytes came; answers are told by store_ready, store_page, store_answer. An error ends the connection. */
    gw_err_t (*feed)(void *state, const void *bytes, size_t len, struct gw_err_ctx *ctx);
    void (*destroy)(void *state);
};

enum store_server_state { SERVER_AWAY, SERVER_DIALING, SERVER_GREETING, SERVER_UP };

struct store_server {
    struct gw_store *store;
    const struct store_protocol *protocol;
    void *protocol_state;
    char address[STORE_ADDRESS_MAX + 1]; /* for logs and scores */
    struct sockaddr_storage addr;
    socklen_t addr_len;       /* 0: sockets are attached */
    const struct gw_tls *tls; /* NULL: not over what it dials */
    uint64_t seed;            /* of its scores */
    void (*left)(void *arg);  /* may be NULL; a connection of it was left */
    void *left_arg;

    enum store_server_state state;
    bool tried; /* the first try is over */
    struct gw_socket socket;
    struct event *readable, *writable;
    struct evbuffer *out;
    int64_t due_us;        /* AWAY: dial (0: never); DIALING, GREETING: give up */
    int64_t backoff_us;    /* the next one */
    int64_t answered_us;   /* UP: the last answer, or when the window stopped being empty */
    int64_t full_until_us; /* puts are refused here */
    struct store_ops urgent, background;
    struct store_slot slots[STORE_WINDOW_OPS];
    uint32_t first_slot, slots_len;
    size_t window_bytes;
};

struct gw_store {
    const struct gw_log *log;
    uint64_t queue_ops, queue_bytes;
    int64_t connect_us, stall_us;
    struct gw_page_sealer *sealer; /* NULL: plain */
    struct gw_tls *tls;            /* to servers that want it; NULL: none does */
    struct event_base *loop;
    struct event *wake, *timer;
    int wake_fd;
    uint8_t *chunk; /* what read(2) reads into */
    pthread_t thread;
    bool thread_started;
    struct store_server *servers[STORE_SERVERS_MAX];
    uint32_t servers_len;
    struct store_calls calls; /* routed, not done */
    int64_t next_deadline_us; /* no call's is earlier; INT64_MAX: none */
    int64_t timer_us;         /* when the timer fires; 0: not set */

    pthread_mutex_t lock;
    struct store_calls inbox;
    struct gw_socket attached[STORE_SERVERS_MAX]; /* wait for the I/O thread */
    bool ending;
    struct gw_store_stats stats;
};

/* ---- store.c: making ---- */

/* Without servers and not running. */
gw_err_t store_create(const struct gw_store_config *config, struct gw_store **out,
                      struct gw_err_ctx *ctx) GW_MUST_USE;
/* Before store_start. On success state belongs to the store, else it is the caller's still. */
gw_err_t store_add_server(struct gw_store *store, const struct store_protocol *protocol, void *state,
                          const char *address, struct store_server **out, struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t store_start(struct gw_store *store, struct gw_err_ctx *ctx) GW_MUST_USE;
void store_wake(struct gw_store *store);
void store_call_free(struct store_call *call);
/* Under the lock. */
struct gw_store_verb_stats *store_verb_stats(struct gw_store *store, enum store_verb verb);

/* ---- store_io.c: the I/O thread ---- */

void *store_io(void *arg);
void store_on_wake(evutil_socket_t fd, short what, void *arg);
void store_on_timer(evutil_socket_t fd, short what, void *arg);
/* The timer fires then at the latest. */
void store_timer_wants(struct gw_store *store, int64_t due_us);
/* The op's part of its call is over. */
void store_op_over(struct store_op *op, enum gw_store_outcome outcome);
/* Adds n to one of the counters. */
void store_count(struct gw_store *store, uint64_t *counter, uint64_t n);

/* ---- store_server.c: one server's connection ---- */

/* Sends what the window has room for. */
void store_server_pump(struct store_server *server);
/* Takes a connected socket. */
void store_server_attach(struct store_server *server, struct gw_socket socket);
/* Does what is due; returns when to call again (INT64_MAX: never). */
int64_t store_server_tend(struct store_server *server, int64_t now_us);
/* What it had is LOST. why NULL: on purpose, so that nobody is told. */
void store_server_leave(struct store_server *server, const char *why);
void store_server_free(struct store_server *server);

/* ---- for protocols ---- */

/* Bytes of a page as it travels. */
size_t store_sealed_bytes(const struct gw_store *store, size_t len);
/* Writes page i of a put, as it travels. */
gw_err_t store_seal(const struct store_op *op, uint32_t i, uint8_t *out) GW_MUST_USE;
/* The greeting is over: commands may come. */
void store_ready(struct store_server *server);
/* The oldest slot; NULL when nothing was asked. */
const struct store_slot *store_oldest(const struct store_server *server);
/* Page number i < pages_len of the oldest slot's get came. */
void store_page(struct store_server *server, uint32_t i, const void *bytes, size_t len);
void store_page_missing(struct store_server *server);
/* The oldest slot's answer is over. found: of a has. */
void store_answer(struct store_server *server, enum gw_store_outcome outcome, bool found);
/* Puts will be refused for a while. */
void store_full(struct store_server *server);

#endif
