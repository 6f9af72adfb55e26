/* Cell race: which of the missing parts come from the disk and which from peers, decided part by part while they load.
 *
 * Two sides have lanes: a lane of the disk packs a part on a thread of its own, a lane of the peers is a connection to one
 * source. How fast a lane of either side is, is measured all the time (bytes per second of lane time; what is older than
 * CELL_RACE_MEMORY_US counts half). An idle lane takes a part when it is predicted to have it sooner than the other side
 * would:
 *
 *     own    = bytes / own rate
 *     other  = bytes / other's rate                                        if a lane of the other side is idle
 *              (bytes waiting + bytes in flight there) / (rate × lanes)    else: when the other side has done all of it
 *
 * So parts go to both while both help, and to one alone when the other would only be the last to end. A side that is less than
 * 1/CELL_RACE_HELP as fast as the other does not help: both need cores and memory, and what the slow one takes of them costs
 * more than it brings (measured on two cores, packing at 0.7 GB/s, a peer at 2.9: 1.2 together). Peers begin with the
 * largest parts, the disk with those that no peer has, then with the smallest. The first part of each side is the smallest that
 * tells something (CELL_RACE_PROBE_BYTES), whatever was measured in earlier loads: sources and caches are others by now; and so
 * is the next one of a side that has had none for CELL_RACE_AGAIN_US, for one measurement may err. Where peers are preferred, the disk has only what they cannot
 * give.
 *
 * What is in flight is begun anew by an idle lane when nothing else is to do, and it would have it in half the time that is
 * predicted for the rest, or the lane that has it has moved nothing for CELL_RACE_SILENCE_US and twice that prediction. Who
 * is done first counts; the other one learns that the part is not its own any more.
 *
 *     part: waiting ─take─► in flight ─done─► there
 *              ▲               │ back (source failed)      │ taken over: the same, another lane
 *              └───────────────┘
 *
 * It has no threads and no clock: the caller (cell_load.c) holds a lock around every call. Every wait for something to do has
 * to end after a while, because predictions change with time.
 *
 * Owner: caller memory; cell_race_fini frees the list. Thread: one at a time. Units: bytes, microseconds. Errors:
 * GW_ERR_MEMORY. Source: own design; list scheduling on related machines (Horowitz and Sahni 1976). */
#ifndef GW_WORKER_CELL_RACE_H
#define GW_WORKER_CELL_RACE_H

#include <stdint.h>

#include "base/err.h"

#define CELL_RACE_LANES_MAX   64
#define CELL_RACE_MEMORY_US   1000000
#define CELL_RACE_SILENCE_US  300000     /* a pause of a machine that swaps or is short of cores */
#define CELL_RACE_PROBE_BYTES (1u << 20) /* below it a rate is that of the questions, not of the bytes */
#define CELL_RACE_HELP        2
#define CELL_RACE_PRIOR_US    50000  /* so long do earlier loads count */
#define CELL_RACE_AGAIN_US    500000 /* a side that gets no parts is tried again after so long */
#define CELL_RACE_NOBODY      UINT32_MAX

enum cell_side { CELL_DISK, CELL_PEERS, CELL_SIDES };

/* What lanes of one side have done lately, all together. */
struct cell_rate {
    double bytes, us; /* us 0: nothing is known */
};

struct cell_item {
    uint32_t part; /* its number */
    uint64_t bytes;
    uint64_t sources; /* bit i: source i may have it */
    uint32_t lane;    /* that has it in flight; CELL_RACE_NOBODY */
    bool there;
    uint64_t moved; /* bytes that this lane has of it */
    uint64_t
        whole; /* bytes of its beginning that came from peers before, and with which the next of them goes on */
    void *rest; /* the caller's: these bytes; NULL: none */
};

struct cell_lane {
    bool used, idle;
    enum cell_side side;
    uint32_t source;  /* of the peers' */
    int64_t moved_us; /* when it moved something last, or took a part */
};

struct cell_race {
    struct cell_item *items; /* [len], the largest first */
    uint32_t len, there;
    struct cell_lane lanes[CELL_RACE_LANES_MAX];
    struct cell_rate rates[CELL_SIDES];
    int64_t tried_us[CELL_SIDES]; /* when it had a part last; 0: never */
    bool prefer_peers;
};

/* items[len]: part, bytes and sources are set; copied. rates: of earlier races, or zeros. */
gw_err_t cell_race_init(struct cell_race *race, const struct cell_item *items, uint32_t len,
                        const struct cell_rate rates[CELL_SIDES]) GW_MUST_USE;
void cell_race_fini(struct cell_race *race);

static inline bool cell_race_is_over(const struct cell_race *race)
{
    return race->there == race->len;
}

/* *lane: a new one's number. GW_ERR_LIMIT: there are CELL_RACE_LANES_MAX. */
gw_err_t cell_race_enter(struct cell_race *race, enum cell_side side, uint32_t source, int64_t now_us,
                         uint32_t *lane) GW_MUST_USE;
/* A lane without a part leaves. */
void cell_race_leave(struct cell_race *race, uint32_t lane);

/* A part for the lane; NULL: none now, ask again later. */
struct cell_item *cell_race_take(struct cell_race *race, uint32_t lane, int64_t now_us);
/* The lane has moved so many bytes of its part in so many microseconds (0: that time tells nothing). False: the part is another's by now, or there. */
bool cell_race_moved(struct cell_race *race, uint32_t lane, struct cell_item *item, uint64_t bytes,
                     int64_t us, int64_t now_us);
/* It is whole. False: another one has been faster, or took it over. */
bool cell_race_done(struct cell_race *race, uint32_t lane, struct cell_item *item);
/* The lane cannot finish it. False: it is another's by now. */
bool cell_race_back(struct cell_race *race, uint32_t lane, struct cell_item *item);
/* Is it whose the lane thinks it is? */
bool cell_race_is_own(const struct cell_item *item, uint32_t lane);

#endif
