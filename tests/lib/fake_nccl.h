/* A stand-in for libnccl.so.2 whose ranks are threads and processes of one machine, and which fails as it is told.
 *
 * It has the calls of kernels/cuda/nccl_api.h under NCCL's names and moves bytes: a communicator's ranks share a segment
 * (its id says where), in which each pair of ranks has a ring of bytes per direction. Work runs on tests/lib/host_stream's
 * streams, in their order, as long as it takes, or until the communicator is aborted or revoked.
 *
 * What it does as NCCL does, so that wrong uses are found:
 *     calls come back "in progress" now and then; only when the caller has asked until they are not is the work put on the
 *     stream, and another call before that fails
 *     bytes have no frames: ranks that gather other lengths get each other's bytes mixed
 *     work that is cut short ends, its events are reached, and what it was to write is junk
 *     finalize waits for the other ranks; an id serves once
 *
 * What a plan can have happen, at the nth call of a rank: see enum fake_fault. `tells`: does a rank hear that another is gone
 * (its process has ended, or it has aborted)? NCCL does in some cases, in others work just hangs. */
#ifndef GW_TESTS_LIB_FAKE_NCCL_H
#define GW_TESTS_LIB_FAKE_NCCL_H

#include <stdbool.h>
#include <stdint.h>

#define FAKE_NCCL_RULES_MAX 4
#define FAKE_NCCL_ANY_RANK  (-1)

enum fake_call {
    FAKE_GET_ID,
    FAKE_INIT,
    FAKE_GET_ASYNC,
    FAKE_FINALIZE,
    FAKE_DESTROY,
    FAKE_ABORT,
    FAKE_REVOKE,
    FAKE_ALL_GATHER,
    FAKE_SEND,
    FAKE_RECV,
    FAKE_GROUP_START,
    FAKE_GROUP_END,
    FAKE_CALLS
};

enum fake_fault {
    FAKE_FAILS = 1, /* the call returns `result` */
    FAKE_ASYNC, /* the call is fine; what it begins ends early, with junk, and ncclCommGetAsyncError says `result` */
    FAKE_HANGS, /* what it begins does not end before an abort; an abort itself, not before fake_nccl_let_go */
    FAKE_SLOW,  /* what it begins ends `us` later */
    FAKE_KILLED, /* the process is gone, as by kill -9 */
    FAKE_FAULTS = FAKE_KILLED
};

struct fake_nccl_rule {
    enum fake_fault fault;
    enum fake_call call;
    int rank;     /* or FAKE_NCCL_ANY_RANK */
    uint32_t nth; /* from 1 */
    int result;   /* ncclResult_t */
    int64_t us;
};

struct fake_nccl_plan {
    uint64_t seed; /* of what is left to chance: when calls come back in progress */
    bool tells;
    int version; /* 0: 22809 */
    uint32_t rules_len;
    struct fake_nccl_rule rules[FAKE_NCCL_RULES_MAX];
};

struct fake_nccl_counts {
    uint32_t calls[FAKE_CALLS];
    uint32_t living; /* communicators that are not destroyed or aborted */
};

/* Of this process; counts begin anew. No communicator lives. */
typedef void fake_nccl_set_fn(const struct fake_nccl_plan *plan);      /* "fake_nccl_set" */
typedef void fake_nccl_get_counts_fn(struct fake_nccl_counts *counts); /* "fake_nccl_get_counts" */
typedef void fake_nccl_let_go_fn(void);                                /* "fake_nccl_let_go" */

#endif
