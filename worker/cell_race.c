#include "worker/cell_race.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define UNKNOWN 0.0 /* a rate */

static int larger_first(const void *a, const void *b)
{
    const struct cell_item *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return (x->part > y->part) - (x->part < y->part);
}

gw_err_t cell_race_init(struct cell_race *race, const struct cell_item *items, uint32_t len,
                        const struct cell_rate rates[CELL_SIDES])
{
    struct cell_item *copy = malloc((len + 1) * sizeof *copy);
    if (!copy) return GW_ERR_MEMORY;
    memcpy(copy, items, len * sizeof *copy);
    qsort(copy, len, sizeof *copy, larger_first);
    *race = (struct cell_race){.items = copy, .len = len};
    for (int i = 0; i < CELL_SIDES; i++) {
        struct cell_rate r = rates[i];
        double part = r.us > CELL_RACE_PRIOR_US ? CELL_RACE_PRIOR_US / r.us : 1;
        race->rates[i] = (struct cell_rate){r.bytes * part, r.us * part};
    }
    for (uint32_t i = 0; i < len; i++) copy[i].lane = CELL_RACE_NOBODY;
    return GW_OK;
}

void cell_race_fini(struct cell_race *race)
{
    free(race->items);
}

gw_err_t cell_race_enter(struct cell_race *race, enum cell_side side, uint32_t source, int64_t now_us,
                         uint32_t *lane)
{
    for (uint32_t i = 0; i < CELL_RACE_LANES_MAX; i++) {
        if (race->lanes[i].used) continue;
        race->lanes[i] = (struct cell_lane){.used = true, .side = side, .source = source, .moved_us = now_us};
        *lane = i;
        return GW_OK;
    }
    return GW_ERR_LIMIT;
}

void cell_race_leave(struct cell_race *race, uint32_t lane)
{
    race->lanes[lane].used = false;
}

/* ---- predictions ---- */

/* Bytes per microsecond of one lane. */
static double rate_of(const struct cell_race *race, enum cell_side side)
{
    const struct cell_rate *r = &race->rates[side];
    return r->us > 0 ? r->bytes / r->us : UNKNOWN;
}

static void measure(struct cell_rate *r, uint64_t bytes, int64_t us)
{
    if (us <= 0) return;
    r->bytes += (double)bytes;
    r->us += (double)us;
    if (r->us < 2.0 * CELL_RACE_MEMORY_US) return;
    r->bytes /= 2;
    r->us /= 2;
}

static bool is_waiting(const struct cell_item *item)
{
    return !item->there && item->lane == CELL_RACE_NOBODY;
}

static bool can_do(const struct cell_lane *lane, const struct cell_item *item)
{
    return lane->side == CELL_DISK || (item->sources >> lane->source & 1);
}

/* Has a lane been silent for longer than what it does explains? */
static bool is_stuck(const struct cell_race *race, const struct cell_item *item, int64_t now_us)
{
    const struct cell_lane *lane = &race->lanes[item->lane];
    double rate = rate_of(race, lane->side);
    double left_us = rate > UNKNOWN ? (double)(item->bytes - item->moved) / rate : 0;
    return (double)(now_us - lane->moved_us) > CELL_RACE_SILENCE_US + 2 * left_us;
}

/* What a side has to do, and with how many lanes. */
struct outlook {
    uint32_t lanes, idle; /* that can do the part in question, and are not stuck */
    double bytes;         /* in flight there */
};

static struct outlook look_at(const struct cell_race *race, enum cell_side side,
                              const struct cell_item *about, int64_t now_us)
{
    struct outlook o = {0};
    bool stuck[CELL_RACE_LANES_MAX] = {false};
    for (uint32_t i = 0; i < race->len; i++) {
        const struct cell_item *item = &race->items[i];
        if (item->there || item->lane == CELL_RACE_NOBODY || race->lanes[item->lane].side != side) continue;
        stuck[item->lane] = is_stuck(race, item, now_us);
        if (!stuck[item->lane]) o.bytes += (double)(item->bytes - item->moved);
    }
    for (uint32_t i = 0; i < CELL_RACE_LANES_MAX; i++) {
        const struct cell_lane *lane = &race->lanes[i];
        if (!lane->used || lane->side != side || stuck[i] || !can_do(lane, about)) continue;
        o.lanes++;
        o.idle += lane->idle;
    }
    return o;
}

static double waiting_bytes(const struct cell_race *race)
{
    double bytes = 0;
    for (uint32_t i = 0; i < race->len; i++)
        if (is_waiting(&race->items[i])) bytes += (double)race->items[i].bytes;
    return bytes;
}

/* Is it time to see what the side can do? */
static bool is_due(const struct cell_race *race, enum cell_side side, int64_t now_us)
{
    return race->tried_us[side] == 0 || now_us - race->tried_us[side] > CELL_RACE_AGAIN_US;
}

static uint32_t lanes_of(const struct cell_race *race, enum cell_side side)
{
    uint32_t lanes = 0;
    for (uint32_t i = 0; i < CELL_RACE_LANES_MAX; i++)
        lanes += race->lanes[i].used && race->lanes[i].side == side;
    return lanes;
}

/* Would a lane of this side have the waiting part sooner than the other side? */
static bool is_sooner(const struct cell_race *race, const struct cell_lane *lane,
                      const struct cell_item *item, int64_t now_us)
{
    enum cell_side side = lane->side, other = side == CELL_DISK ? CELL_PEERS : CELL_DISK;
    double own_rate = rate_of(race, side), other_rate = rate_of(race, other);
    struct outlook o = look_at(race, other, item, now_us);
    if (o.lanes == 0) return true;
    if (race->prefer_peers) return side == CELL_PEERS;
    if (own_rate <= UNKNOWN || other_rate <= UNKNOWN) return true;
    if (is_due(race, side, now_us)) return true;
    double own = own_rate * lanes_of(race, side), all = other_rate * o.lanes;
    if (own * CELL_RACE_HELP < all) return false;
    double own_us = (double)item->bytes / own_rate, other_us = (double)item->bytes / other_rate;
    if (o.idle == 0) other_us = (waiting_bytes(race) + o.bytes) / (other_rate * o.lanes);
    return own_us <= other_us;
}

/* ---- parts ---- */

/* What a lane might take. */
struct choice {
    struct cell_item *largest, *smallest;
    struct cell_item *probe;  /* the smallest that is large enough */
    struct cell_item *orphan; /* the largest that no peer can give */
};

static bool peers_can_do(const struct cell_race *race, const struct cell_item *item)
{
    for (uint32_t i = 0; i < CELL_RACE_LANES_MAX; i++) {
        const struct cell_lane *lane = &race->lanes[i];
        if (lane->used && lane->side == CELL_PEERS && can_do(lane, item)) return true;
    }
    return false;
}

static struct choice look_for_waiting(const struct cell_race *race, const struct cell_lane *lane)
{
    struct choice c = {0};
    for (uint32_t i = 0; i < race->len; i++) {
        struct cell_item *item = &race->items[i];
        if (!is_waiting(item) || !can_do(lane, item)) continue;
        if (!c.largest) c.largest = item;
        if (!c.orphan && !peers_can_do(race, item)) c.orphan = item;
        if (item->bytes >= CELL_RACE_PROBE_BYTES) c.probe = item;
        c.smallest = item;
    }
    return c;
}

/* The waiting part that the lane would take first. */
static struct cell_item *next_waiting(const struct cell_race *race, const struct cell_lane *lane,
                                      int64_t now_us)
{
    struct choice c = look_for_waiting(race, lane);
    if (lane->side == CELL_DISK && c.orphan) return c.orphan;
    if (is_due(race, lane->side, now_us) || rate_of(race, lane->side) <= UNKNOWN)
        return c.probe ? c.probe : c.largest;
    return lane->side == CELL_DISK ? c.smallest : c.largest;
}

/* A part that another lane has, and that this one would have sooner. */
static struct cell_item *next_to_take_over(const struct cell_race *race, const struct cell_lane *lane,
                                           int64_t now_us)
{
    double own_rate = rate_of(race, lane->side);
    for (uint32_t i = 0; i < race->len; i++) {
        struct cell_item *item = &race->items[i];
        if (item->there || item->lane == CELL_RACE_NOBODY || !can_do(lane, item)) continue;
        const struct cell_lane *owner = &race->lanes[item->lane];
        if (owner == lane) continue;
        double their_rate = rate_of(race, owner->side);
        bool may = owner->side != lane->side && !(race->prefer_peers && lane->side == CELL_DISK);
        bool sooner = may && own_rate > UNKNOWN && their_rate > UNKNOWN &&
                      2 * (double)item->bytes / own_rate < (double)(item->bytes - item->moved) / their_rate;
        if (sooner || is_stuck(race, item, now_us)) return item;
    }
    return NULL;
}

struct cell_item *cell_race_take(struct cell_race *race, uint32_t number, int64_t now_us)
{
    struct cell_lane *lane = &race->lanes[number];
    struct cell_item *item = next_waiting(race, lane, now_us);
    if (item && !is_sooner(race, lane, item, now_us))
        item = NULL;
    else if (!item)
        item = next_to_take_over(race, lane, now_us);
    lane->idle = item == NULL;
    if (!item) return NULL;
    race->tried_us[lane->side] = now_us;
    item->lane = number;
    item->moved = lane->side == CELL_PEERS ? item->whole : 0;
    lane->moved_us = now_us;
    return item;
}

bool cell_race_is_own(const struct cell_item *item, uint32_t lane)
{
    return !item->there && item->lane == lane;
}

bool cell_race_moved(struct cell_race *race, uint32_t lane, struct cell_item *item, uint64_t bytes,
                     int64_t us, int64_t now_us)
{
    measure(&race->rates[race->lanes[lane].side], bytes, us);
    race->lanes[lane].moved_us = now_us;
    if (!cell_race_is_own(item, lane)) return false;
    item->moved += bytes;
    assert(item->moved <= item->bytes);
    return true;
}

bool cell_race_done(struct cell_race *race, uint32_t lane, struct cell_item *item)
{
    if (!cell_race_is_own(item, lane)) return false;
    item->there = true;
    race->there++;
    return true;
}

bool cell_race_back(struct cell_race *race, uint32_t lane, struct cell_item *item)
{
    (void)race;
    if (!cell_race_is_own(item, lane)) return false;
    item->lane = CELL_RACE_NOBODY;
    return true;
}
