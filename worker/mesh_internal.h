/* Mesh, inside: what the callers of gather share with the I/O thread (mesh_io.c).
 *
 * One lock guards all of it. The I/O thread holds it but while it polls; callers hold it but while they wait for
 * `changed`. Sockets in a handshake (accepted, dials that are not proven) are opened, read and closed by the I/O thread
 * alone, so that no polled descriptor changes under it; proven ones are closed or taken by whoever holds the lock.
 *
 *     dial: free ─gather─► due ─thread─► shaking ─► proven ─gather─► free (its socket goes to the caller)
 *                           ▲               │ failed, too slow: waits for its back-off
 *                           └───────────────┘
 *     over (its gather has ended) while shaking: the thread closes it and frees the slot */
#ifndef GW_WORKER_MESH_INTERNAL_H
#define GW_WORKER_MESH_INTERNAL_H

#include <poll.h>
#include <pthread.h>

#include "worker/mesh.h"
#include "migrate/shake.h"

#define MESH_DIALS_MAX       256 /* four gathers of the most ranks: one under way, others being cancelled */
#define MESH_ADDRESS_MAX     64  /* "[v6]:port" */
#define MESH_BACKOFF_MIN_US  (20 * GW_US_PER_MS)
#define MESH_BACKOFF_MAX_US  (500 * GW_US_PER_MS)
#define MESH_TELL_PAUSE_US   (1 * GW_US_PER_S)    /* who dials for ever does not fill the log */
#define MESH_ACCEPT_PAUSE_US (100 * GW_US_PER_MS) /* when descriptors have run out */

struct mesh_dial {
    bool used, over, proven;
    bool reached;          /* its CHALLENGE came, once at least */
    struct gw_shake shake; /* none: between two tries */
    struct gw_shake_pair pair;
    struct sockaddr_storage addr;
    socklen_t addr_len;
    int64_t next_us, backoff_us; /* the next try; the pause after it */
    const char *why;             /* the last try failed; static text */
    int why_errno;
};

/* A proven dialer's connection that nobody has gathered yet. It is admitted as soon as a gather claims it. */
struct mesh_waiting {
    struct gw_shake shake; /* none: free */
    int64_t since_us;
};

/* A gather under way, on its caller's stack. */
struct mesh_gather {
    struct mesh_gather *next;
    uint64_t term, generation;
    uint32_t pipeline;
    const struct gw_msg_assign *assign;
    int64_t reach_us; /* by then each dial has reached its rank */
    uint32_t unreached;
    struct mesh_dial *dials[GW_WIRE_RANKS_MAX]; /* [assign->self] */
};

struct gw_mesh {
    /* constant after create */
    uint8_t *key_bytes;
    struct gw_shake_key key;
    int64_t shake_us, wait_us, reach_us;
    const struct gw_log *log;
    char address[MESH_ADDRESS_MAX];
    int listen_fd, wake_fd;
    pthread_t thread;
    bool thread_started;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* monotonic clock: a connection was proven, or something was cancelled */
    bool stopping;
    uint64_t strangers;
    int64_t tell_again_us;    /* of strangers */
    uint64_t term, cancelled; /* of this term: generations up to it */
    struct mesh_gather *gathers;
    struct gw_shake accepted[GW_MESH_PENDING_MAX]; /* none: free */
    struct mesh_waiting waiting[GW_MESH_PENDING_MAX];
    struct mesh_dial dials[MESH_DIALS_MAX];

    /* the I/O thread's own */
    int64_t accept_again_us; /* 0: accepts */
    struct pollfd polled[2 + GW_MESH_PENDING_MAX + MESH_DIALS_MAX];
};

/* The I/O thread; arg: the mesh. */
void *mesh_io(void *arg);

/* Makes the I/O thread look again. */
void mesh_wake(struct gw_mesh *m);

/* A handshake has failed: counts who had no business here, or was told something else. */
void mesh_failed(struct gw_mesh *m, const struct gw_shake *s, int64_t now_us);

/* Is it of an older term, or cancelled? Nobody will gather it. */
bool mesh_is_stale(const struct gw_mesh *m, uint64_t term, uint64_t generation);

/* Does g wait for that connection? */
bool mesh_claims(const struct mesh_gather *g, const struct gw_shake_pair *pair);

/* Admits w's dialer; closes it if that fails. */
void mesh_admit(struct gw_mesh *m, struct mesh_waiting *w);

#endif
