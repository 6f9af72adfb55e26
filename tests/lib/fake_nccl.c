/* See fake_nccl.h. Built as a shared object, build/<variant>/tests/lib/fake_nccl.so. */
#include "tests/lib/fake_nccl.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "kernels/cuda/nccl_api.h"
#include "tests/lib/host_stream.h"

#define RANKS     8
#define RING      4096 /* bytes; a power of two, and small: long transfers go around */
#define TRANSFERS 64   /* of one group */
#define IDS       256  /* between two plans */
#define LOOK_US   500  /* how often work that waits looks for peers that are gone */

typedef enum gw_nccl_result result_t;

/* Bytes from one rank to another. Counts never wrap in a test. */
struct ring {
    _Atomic uint64_t put, taken;
    char bytes[RING];
};

/* A rank holds a lock on byte `rank` of the segment's file for as long as it lives: whoever cannot take it sees the rank. */
struct segment {
    uint64_t nonce;
    _Atomic uint32_t joined[RANKS]; /* 1 + the ranks of its group */
    _Atomic uint32_t finalized[RANKS];
    struct ring rings[RANKS][RANKS]; /* [from][to] */
};

/* What an id says. */
struct place {
    char magic[8];
    uint32_t pid, fd;
    uint64_t nonce;
};

enum phase { PHASE_JOINING, PHASE_READY, PHASE_FINALIZING };

struct gw_nccl_comm {
    struct segment *segment;
    int fd, rank, ranks;
    enum phase phase;
    bool never;        /* the phase does not end */
    int64_t ready_us;  /* nor before then */
    uint32_t busy;     /* ncclCommGetAsyncError says "in progress" so often yet */
    struct work *held; /* put on its stream when it is not busy any more */
    struct gw_rng rng;
    _Atomic int async; /* result_t of what went wrong */
    _Atomic bool cut;  /* aborted or revoked: work ends */
    _Atomic uint32_t running;
};

struct transfer {
    bool in; /* or out */
    int peer;
    char *at;
    size_t bytes, done;
};

struct work {
    struct gw_nccl_comm *comm;
    struct gw_stream *stream;
    struct transfer transfers[TRANSFERS];
    uint32_t len;
    void *own_to; /* of a gather: where this rank's bytes go, NULL: they are there */
    const void *own_from;
    size_t own_bytes;
    enum fake_fault fault;
    int result;
    int64_t begin_us;
};

/* NCCL's calls have no context but this: a thread's open group, and the process's plan. */
static _Thread_local struct work *group;
static _Thread_local uint32_t group_depth;
static pthread_mutex_t plan_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_nccl_plan plan;
static uint32_t seen[FAKE_NCCL_RULES_MAX]; /* calls that a rule was asked about */
static struct fake_nccl_counts counts;
static _Atomic bool let_go;
static int segments[IDS]; /* descriptors of those that this process made */
static uint32_t segments_len;

#define API __attribute__((visibility("default")))
/* Prototypes of what is exported: only dlsym knows them. */
#define EXPORT(type, name, ...)                                                                              \
    API type name(__VA_ARGS__);                                                                              \
    API type name(__VA_ARGS__)

EXPORT(void, fake_nccl_set, const struct fake_nccl_plan *p)
{
    pthread_mutex_lock(&plan_lock);
    plan = *p;
    memset(seen, 0, sizeof seen);
    counts = (struct fake_nccl_counts){0};
    while (segments_len > 0) close(segments[--segments_len]);
    atomic_store(&let_go, false);
    pthread_mutex_unlock(&plan_lock);
}

EXPORT(void, fake_nccl_get_counts, struct fake_nccl_counts *out)
{
    pthread_mutex_lock(&plan_lock);
    *out = counts;
    pthread_mutex_unlock(&plan_lock);
}

EXPORT(void, fake_nccl_let_go, void)
{
    atomic_store(&let_go, true);
}

/* Counts the call; what the plan has for it, fault 0: nothing. */
static struct fake_nccl_rule called(enum fake_call call, int rank)
{
    struct fake_nccl_rule hit = {0};
    pthread_mutex_lock(&plan_lock);
    counts.calls[call]++;
    for (uint32_t i = 0; i < plan.rules_len; i++) {
        const struct fake_nccl_rule *r = &plan.rules[i];
        if (r->call != call || (r->rank != FAKE_NCCL_ANY_RANK && r->rank != rank)) continue;
        if (++seen[i] == r->nth) hit = *r;
    }
    pthread_mutex_unlock(&plan_lock);
    if (hit.fault == FAKE_KILLED) raise(SIGKILL);
    return hit;
}

static void count_living(int by)
{
    pthread_mutex_lock(&plan_lock);
    counts.living += (uint32_t)by;
    pthread_mutex_unlock(&plan_lock);
}

static void nap(void)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
}

/* ---- ids and segments ---------------------------------------------------------------------------------------- */

/* Its descriptor stays open until the next plan: an id may be used at any time. */
static void keep_segment(int fd)
{
    pthread_mutex_lock(&plan_lock);
    if (segments_len == IDS) abort();
    segments[segments_len++] = fd;
    pthread_mutex_unlock(&plan_lock);
}

EXPORT(result_t, ncclGetUniqueId, struct gw_nccl_id *id)
{
    struct fake_nccl_rule r = called(FAKE_GET_ID, FAKE_NCCL_ANY_RANK);
    if (r.fault == FAKE_FAILS) return (result_t)r.result;
    int fd = memfd_create("fake-nccl", MFD_CLOEXEC);
    if (fd < 0) return GW_NCCL_SYSTEM_ERROR;
    keep_segment(fd);
    if (ftruncate(fd, sizeof(struct segment)) != 0) return GW_NCCL_SYSTEM_ERROR;
    struct place place = {.magic = "FAKENCL", .pid = (uint32_t)getpid(), .fd = (uint32_t)fd};
    gw_random_bytes(&place.nonce, sizeof place.nonce);
    if (pwrite(fd, &place.nonce, sizeof place.nonce, 0) != sizeof place.nonce) return GW_NCCL_SYSTEM_ERROR;
    memset(id, 0, sizeof *id);
    memcpy(id, &place, sizeof place);
    return GW_NCCL_SUCCESS;
}

static bool hold_rank(int fd, int rank)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = rank, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

/* Came once, and is not there any more. */
static bool is_gone(const struct gw_nccl_comm *comm, int rank)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = rank, .l_len = 1};
    if (atomic_load(&comm->segment->joined[rank]) == 0 || rank == comm->rank) return false;
    return fcntl(comm->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

static result_t map_segment(struct gw_nccl_comm *comm, const struct gw_nccl_id *id)
{
    struct place place;
    char path[64];
    memcpy(&place, id, sizeof place);
    if (memcmp(place.magic, "FAKENCL", 8) != 0) return GW_NCCL_INVALID_ARGUMENT;
    snprintf(path, sizeof path, "/proc/%u/fd/%u", place.pid, place.fd);
    comm->fd = open(path, O_RDWR | O_CLOEXEC);
    if (comm->fd < 0) return GW_NCCL_SYSTEM_ERROR;
    void *at = mmap(NULL, sizeof(struct segment), PROT_READ | PROT_WRITE, MAP_SHARED, comm->fd, 0);
    if (at == MAP_FAILED) return GW_NCCL_SYSTEM_ERROR;
    comm->segment = at;
    return comm->segment->nonce == place.nonce ? GW_NCCL_SUCCESS : GW_NCCL_SYSTEM_ERROR;
}

static void free_comm(struct gw_nccl_comm *comm)
{
    if (comm->segment) munmap(comm->segment, sizeof *comm->segment);
    if (comm->fd >= 0) close(comm->fd);
    free(comm->held);
    free(comm);
}

static result_t join_group(struct gw_nccl_comm *comm, const struct gw_nccl_id *id)
{
    result_t result = map_segment(comm, id);
    if (result != GW_NCCL_SUCCESS) return result;
    if (atomic_load(&comm->segment->joined[comm->rank]) != 0 || !hold_rank(comm->fd, comm->rank))
        return GW_NCCL_INVALID_USAGE;
    atomic_store(&comm->segment->joined[comm->rank], 1 + (uint32_t)comm->ranks);
    return GW_NCCL_SUCCESS;
}

/* ---- work on a stream ---------------------------------------------------------------------------------------- */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static bool move_bytes(struct gw_nccl_comm *comm, struct transfer *t)
{
    struct ring *ring =
        t->in ? &comm->segment->rings[t->peer][comm->rank] : &comm->segment->rings[comm->rank][t->peer];
    uint64_t put = atomic_load(&ring->put), taken = atomic_load(&ring->taken);
    size_t at = (t->in ? taken : put) % RING;
    size_t len = least(least(t->bytes - t->done, RING - at), t->in ? put - taken : RING - (put - taken));
    if (len == 0) return false;
    if (t->in)
        memcpy(t->at + t->done, ring->bytes + at, len);
    else
        memcpy(ring->bytes + at, t->at + t->done, len);
    t->done += len;
    atomic_fetch_add(t->in ? &ring->taken : &ring->put, len);
    return true;
}

/* A peer's transfers go one behind the other in each direction. */
static bool is_behind(const struct work *w, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++)
        if (w->transfers[k].peer == w->transfers[i].peer && w->transfers[k].in == w->transfers[i].in &&
            w->transfers[k].done < w->transfers[k].bytes)
            return true;
    return false;
}

/* Moves what can be moved. *left: transfers that are not done. */
static bool move_all(struct work *w, uint32_t *left)
{
    bool moved = false;
    *left = 0;
    for (uint32_t i = 0; i < w->len; i++) {
        struct transfer *t = &w->transfers[i];
        if (t->done < t->bytes && !is_behind(w, i)) moved = move_bytes(w->comm, t) || moved;
        *left += t->done < t->bytes;
    }
    return moved;
}

static bool waits_for_gone(const struct work *w)
{
    for (uint32_t i = 0; i < w->len; i++)
        if (w->transfers[i].done < w->transfers[i].bytes && is_gone(w->comm, w->transfers[i].peer))
            return true;
    return false;
}

/* What was cut short wrote anything. */
static void scribble(struct work *w, int result)
{
    if (result) atomic_store(&w->comm->async, result);
    for (uint32_t i = 0; i < w->len; i++)
        if (w->transfers[i].in) memset(w->transfers[i].at, 0x5a, w->transfers[i].bytes);
}

static void transfer_all(struct work *w)
{
    uint32_t left = 1;
    int64_t look_us = 0;
    while (left > 0) {
        if (atomic_load(&w->comm->cut)) return scribble(w, 0);
        bool begun = w->fault != FAKE_HANGS && gw_clock_mono_us() >= w->begin_us;
        if (begun && move_all(w, &left)) continue;
        if (left == 0) break;
        if (gw_clock_mono_us() > look_us) {
            if (begun && plan.tells && waits_for_gone(w)) return scribble(w, GW_NCCL_REMOTE_ERROR);
            look_us = gw_clock_mono_us() + LOOK_US;
        }
        nap();
    }
}

static void run_work(void *arg)
{
    struct work *w = arg;
    if (w->own_to) memcpy(w->own_to, w->own_from, w->own_bytes);
    if (w->fault == FAKE_ASYNC)
        scribble(w, w->result);
    else
        transfer_all(w);
    atomic_fetch_sub(&w->comm->running, 1);
    free(w);
}

static void put_on_stream(struct work *w)
{
    atomic_fetch_add(&w->comm->running, 1);
    ((struct host_stream_entry *)w->stream)->enqueue(w->stream, run_work, w);
}

/* Either at once, or once the caller has asked often enough. */
static result_t begin_work(struct work *w)
{
    struct gw_nccl_comm *comm = w->comm;
    comm->busy = (uint32_t)gw_rng_below(&comm->rng, 4);
    if (comm->busy > 0) {
        comm->held = w;
        return GW_NCCL_IN_PROGRESS;
    }
    put_on_stream(w);
    return GW_NCCL_SUCCESS;
}

static result_t check_comm(const struct gw_nccl_comm *comm)
{
    if (atomic_load(&comm->async)) return (result_t)atomic_load(&comm->async);
    return comm->phase != PHASE_READY || comm->busy > 0 ? GW_NCCL_INVALID_USAGE : GW_NCCL_SUCCESS;
}

static void take_fault(struct work *w, const struct fake_nccl_rule *r)
{
    if (r->fault == FAKE_SLOW) w->begin_us = gw_clock_mono_us() + r->us;
    if (r->fault) w->fault = r->fault, w->result = r->result;
}

static void add_transfer(struct work *w, bool in, int peer, const void *at, size_t bytes)
{
    if (w->len == TRANSFERS || peer < 0 || peer >= w->comm->ranks || peer == w->comm->rank) abort();
    w->transfers[w->len++] =
        (struct transfer){.in = in, .peer = peer, .at = (char *)(uintptr_t)at, .bytes = bytes};
}

/* The work that a call adds to: the group's, or its own. NULL and *result: the call fails. */
static struct work *open_work(struct gw_nccl_comm *comm, struct gw_stream *stream, enum fake_call call,
                              result_t *result)
{
    struct fake_nccl_rule r = called(call, comm->rank);
    *result = r.fault == FAKE_FAILS ? (result_t)r.result : check_comm(comm);
    if (*result != GW_NCCL_SUCCESS) return NULL;
    struct work *w = group_depth > 0 && group ? group : calloc(1, sizeof *w);
    if (!w) abort();
    w->comm = comm;
    w->stream = stream;
    take_fault(w, &r);
    if (group_depth > 0) group = w;
    return w;
}

static result_t close_work(struct work *w)
{
    return group_depth > 0 ? GW_NCCL_SUCCESS : begin_work(w);
}

EXPORT(result_t, ncclAllGather, const void *from, void *to, size_t count, enum gw_nccl_type type,
       struct gw_nccl_comm *comm, struct gw_stream *stream)
{
    result_t result;
    struct work *w = open_work(comm, stream, FAKE_ALL_GATHER, &result);
    if (!w) return result;
    if (type != GW_NCCL_UINT8 || group_depth > 0) abort();
    char *own = (char *)to + (size_t)comm->rank * count;
    for (int i = 1; i < comm->ranks; i++) {
        int peer = (comm->rank + i) % comm->ranks;
        add_transfer(w, false, peer, from, count);
        add_transfer(w, true, peer, (char *)to + (size_t)peer * count, count);
    }
    if (own != from) w->own_to = own, w->own_from = from, w->own_bytes = count;
    return close_work(w);
}

static result_t transfer_one(bool in, const void *at, size_t count, enum gw_nccl_type type, int peer,
                             struct gw_nccl_comm *comm, struct gw_stream *stream)
{
    result_t result;
    struct work *w = open_work(comm, stream, in ? FAKE_RECV : FAKE_SEND, &result);
    if (!w) return result;
    if (type != GW_NCCL_UINT8) abort();
    add_transfer(w, in, peer, at, count);
    return close_work(w);
}

EXPORT(result_t, ncclSend, const void *from, size_t count, enum gw_nccl_type type, int peer,
       struct gw_nccl_comm *comm, struct gw_stream *stream)
{
    return transfer_one(false, from, count, type, peer, comm, stream);
}

EXPORT(result_t, ncclRecv, void *to, size_t count, enum gw_nccl_type type, int peer,
       struct gw_nccl_comm *comm, struct gw_stream *stream)
{
    return transfer_one(true, to, count, type, peer, comm, stream);
}

EXPORT(result_t, ncclGroupStart, void)
{
    struct fake_nccl_rule r = called(FAKE_GROUP_START, FAKE_NCCL_ANY_RANK);
    if (r.fault == FAKE_FAILS) return (result_t)r.result;
    group_depth++;
    return GW_NCCL_SUCCESS;
}

EXPORT(result_t, ncclGroupEnd, void)
{
    if (group_depth == 0) return GW_NCCL_INVALID_USAGE;
    struct work *w = group;
    struct fake_nccl_rule r = called(FAKE_GROUP_END, w ? w->comm->rank : FAKE_NCCL_ANY_RANK);
    group_depth--;
    group = NULL;
    if (r.fault == FAKE_FAILS) {
        free(w);
        return (result_t)r.result;
    }
    if (!w) return GW_NCCL_SUCCESS;
    take_fault(w, &r);
    return begin_work(w);
}

/* ---- a communicator's life ----------------------------------------------------------------------------------- */

EXPORT(result_t, ncclGetVersion, int *version)
{
    *version = plan.version ? plan.version : 22809;
    return GW_NCCL_SUCCESS;
}

EXPORT(const char *, ncclGetErrorString, result_t result)
{
    static const char *const words[] = {"no error",
                                        "unhandled cuda error",
                                        "unhandled system error",
                                        "internal error",
                                        "invalid argument",
                                        "invalid usage",
                                        "remote process exited or there was a network error",
                                        "NCCL operation in progress"};
    return (unsigned)result < sizeof words / sizeof *words ? words[result] : "unknown result code";
}

EXPORT(const char *, ncclGetLastError, struct gw_nccl_comm *comm)
{
    (void)comm;
    return "planned fault";
}

EXPORT(result_t, ncclCommInitRankConfig, struct gw_nccl_comm **out, int ranks, struct gw_nccl_id id, int rank,
       struct gw_nccl_config *config)
{
    struct fake_nccl_rule r = called(FAKE_INIT, rank);
    *out = NULL;
    if (r.fault == FAKE_FAILS) return (result_t)r.result;
    if (config->magic != GW_NCCL_CONFIG_MAGIC || config->blocking != 0 || config->size < sizeof *config ||
        ranks < 1 || ranks > RANKS || rank < 0 || rank >= ranks)
        return GW_NCCL_INVALID_ARGUMENT;
    struct gw_nccl_comm *comm = calloc(1, sizeof *comm);
    if (!comm) return GW_NCCL_SYSTEM_ERROR;
    comm->fd = -1;
    comm->rank = rank;
    comm->ranks = ranks;
    comm->never = r.fault == FAKE_HANGS;
    comm->ready_us = r.fault == FAKE_SLOW ? gw_clock_mono_us() + r.us : 0;
    atomic_store(&comm->async, r.fault == FAKE_ASYNC ? r.result : 0);
    gw_rng_init(&comm->rng, plan.seed * RANKS + (uint64_t)rank);
    result_t result = join_group(comm, &id);
    if (result != GW_NCCL_SUCCESS) {
        free_comm(comm);
        return result;
    }
    count_living(1);
    *out = comm;
    return GW_NCCL_IN_PROGRESS;
}

/* Is the phase over? */
static result_t look_around(struct gw_nccl_comm *comm)
{
    for (int i = 0; i < comm->ranks; i++) {
        uint32_t joined = atomic_load(&comm->segment->joined[i]);
        if (joined != 0 && joined != 1 + (uint32_t)comm->ranks) return GW_NCCL_INVALID_USAGE;
        bool there =
            comm->phase == PHASE_JOINING ? joined != 0 : atomic_load(&comm->segment->finalized[i]) != 0;
        if (there) continue;
        return plan.tells && is_gone(comm, i) ? GW_NCCL_REMOTE_ERROR : GW_NCCL_IN_PROGRESS;
    }
    return GW_NCCL_SUCCESS;
}

static result_t state_of(struct gw_nccl_comm *comm)
{
    if (atomic_load(&comm->cut)) return comm->never ? GW_NCCL_IN_PROGRESS : GW_NCCL_SUCCESS;
    if (atomic_load(&comm->async)) return (result_t)atomic_load(&comm->async);
    if (comm->busy > 0) {
        if (--comm->busy == 0 && comm->held) put_on_stream(comm->held), comm->held = NULL;
        return GW_NCCL_IN_PROGRESS;
    }
    if (comm->phase == PHASE_READY) return GW_NCCL_SUCCESS;
    if (comm->never || gw_clock_mono_us() < comm->ready_us) return GW_NCCL_IN_PROGRESS;
    result_t state = look_around(comm);
    if (state == GW_NCCL_SUCCESS && comm->phase == PHASE_JOINING) comm->phase = PHASE_READY;
    if (state != GW_NCCL_SUCCESS && state != GW_NCCL_IN_PROGRESS) atomic_store(&comm->async, (int)state);
    return state;
}

EXPORT(result_t, ncclCommGetAsyncError, struct gw_nccl_comm *comm, result_t *state)
{
    struct fake_nccl_rule r = called(FAKE_GET_ASYNC, comm->rank);
    if (r.fault == FAKE_FAILS) return (result_t)r.result;
    if (r.fault == FAKE_ASYNC) atomic_store(&comm->async, r.result);
    *state = state_of(comm);
    return GW_NCCL_SUCCESS;
}

EXPORT(result_t, ncclCommFinalize, struct gw_nccl_comm *comm)
{
    struct fake_nccl_rule r = called(FAKE_FINALIZE, comm->rank);
    if (r.fault == FAKE_FAILS) return (result_t)r.result;
    result_t result = check_comm(comm);
    if (result != GW_NCCL_SUCCESS) return result;
    comm->phase = PHASE_FINALIZING;
    comm->never = r.fault == FAKE_HANGS;
    comm->ready_us = r.fault == FAKE_SLOW ? gw_clock_mono_us() + r.us : 0;
    if (r.fault == FAKE_ASYNC) atomic_store(&comm->async, r.result);
    atomic_store(&comm->segment->finalized[comm->rank], 1);
    return GW_NCCL_IN_PROGRESS;
}

/* A finalized communicator's rank is not missed. */
static result_t end_comm(struct gw_nccl_comm *comm)
{
    while (atomic_load(&comm->running) > 0) nap();
    free_comm(comm);
    count_living(-1);
    return GW_NCCL_SUCCESS;
}

EXPORT(result_t, ncclCommDestroy, struct gw_nccl_comm *comm)
{
    struct fake_nccl_rule r = called(FAKE_DESTROY, comm->rank);
    if (comm->phase != PHASE_FINALIZING) return GW_NCCL_INVALID_USAGE;
    (void)end_comm(comm);
    return r.fault == FAKE_FAILS ? (result_t)r.result : GW_NCCL_SUCCESS;
}

EXPORT(result_t, ncclCommAbort, struct gw_nccl_comm *comm)
{
    struct fake_nccl_rule r = called(FAKE_ABORT, comm->rank);
    while (r.fault == FAKE_HANGS && !atomic_load(&let_go)) nap();
    atomic_store(&comm->cut, true);
    (void)end_comm(comm);
    return r.fault == FAKE_FAILS ? (result_t)r.result : GW_NCCL_SUCCESS;
}

EXPORT(result_t, ncclCommRevoke, struct gw_nccl_comm *comm, int flags)
{
    struct fake_nccl_rule r = called(FAKE_REVOKE, comm->rank);
    if (r.fault == FAKE_FAILS || flags != 0) return (result_t)r.result;
    comm->never = r.fault == FAKE_HANGS;
    atomic_store(&comm->cut, true);
    return GW_NCCL_IN_PROGRESS;
}
