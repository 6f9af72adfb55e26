#include "worker/shelf.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/id_map.h"
#include "migrate/checksum.h"
#include "worker/shelf_internal.h"

#define STEP_POLL_US 200 /* a step is some milliseconds; the engine must not pay for those who wait for it */
#define PIN_POOLS    4 /* that hold the same block: of what serves, what is prepared, what they were before */
#define NONE         UINT32_MAX

/* A block that a peer reads, wherever it is: pools may hold different pages of it. */
struct pin {
    struct {
        struct gw_shelf_pool *pool; /* referenced */
        uint32_t slot;
    } at[PIN_POOLS];
    struct gw_block_name name;
    uint32_t len, holds; /* holds: how often it was pinned */
    uint32_t next_free;
};

struct gw_shelf {
    pthread_mutex_t lock; /* guards all, and of each pool what can change; directories have their own */
    struct gw_shelf_pool *pools[GW_SHELF_POOLS_MAX]; /* NULL = free place */
    struct pin *pins;                                /* [pins_cap] */
    struct gw_id_map pinned;                         /* name → 1 + number of its newest pin */
    uint32_t pins_cap, free_pin;
};

gw_err_t gw_shelf_create(struct gw_shelf **out)
{
    struct gw_shelf *s = calloc(1, sizeof *s);
    if (!s) return GW_ERR_MEMORY;
    pthread_mutex_init(&s->lock, NULL);
    s->free_pin = NONE;
    *out = s;
    return GW_OK;
}

static void free_pool(struct gw_shelf_pool *p)
{
    gw_page_offload_destroy(p->offload);
    gw_page_pool_destroy(p->pool);
    gw_page_dir_destroy(p->dir);
    free(p->sums);
    free(p);
}

void gw_shelf_destroy(struct gw_shelf *s)
{
    if (!s) return;
    for (uint32_t i = 0; i < GW_SHELF_POOLS_MAX; i++)
        if (s->pools[i]) free_pool(s->pools[i]);
    pthread_mutex_destroy(&s->lock);
    gw_id_map_fini(&s->pinned);
    free(s->pins);
    free(s);
}

/* ---- the list; the lock is held ---- */

static void drop_if_over(struct gw_shelf *s, uint32_t at)
{
    struct gw_shelf_pool *p = s->pools[at];
    if (p->state != GONE || p->refs > 0) return;
    free_pool(p);
    s->pools[at] = NULL;
}

static void sweep(struct gw_shelf *s, int64_t now_us)
{
    for (uint32_t i = 0; i < GW_SHELF_POOLS_MAX; i++) {
        struct gw_shelf_pool *p = s->pools[i];
        if (!p) continue;
        if (p->state == RETIRED && now_us >= p->until_us) p->state = GONE;
        drop_if_over(s, i);
    }
}

static uint32_t free_place(const struct gw_shelf *s)
{
    uint32_t at = 0;
    while (at < GW_SHELF_POOLS_MAX && s->pools[at]) at++;
    return at;
}

/* The retired pool whose lease ends first. */
static uint32_t oldest_retired(const struct gw_shelf *s)
{
    uint32_t oldest = GW_SHELF_POOLS_MAX;
    for (uint32_t i = 0; i < GW_SHELF_POOLS_MAX; i++) {
        const struct gw_shelf_pool *p = s->pools[i];
        if (!p || p->state != RETIRED || p->refs > 0) continue;
        if (oldest == GW_SHELF_POOLS_MAX || p->until_us < s->pools[oldest]->until_us) oldest = i;
    }
    return oldest;
}

static gw_err_t place(struct gw_shelf *s, struct gw_shelf_pool *p, struct gw_err_ctx *ctx)
{
    uint32_t at = free_place(s);
    if (at == GW_SHELF_POOLS_MAX) {
        at = oldest_retired(s);
        if (at == GW_SHELF_POOLS_MAX)
            return gw_fail(ctx, GW_ERR_LIMIT, "all %d page pools are in use", GW_SHELF_POOLS_MAX);
        free_pool(s->pools[at]);
    }
    s->pools[at] = p;
    return GW_OK;
}

static bool holds(const struct gw_shelf_pool *p, struct gw_page_rect r)
{
    return p->pages.g0 <= r.g0 && r.g1 <= p->pages.g1 && p->pages.h0 <= r.h0 && r.h1 <= p->pages.h1;
}

/* ---- putting and taking ---- */

static gw_err_t create_pool(struct gw_shelf_key key, struct gw_page_rect pages, struct gw_page_pool *memory,
                            uint32_t slots, struct gw_shelf_pool **out, struct gw_err_ctx *ctx)
{
    struct gw_shelf_pool *p = calloc(1, sizeof *p);
    if (p) p->sums = calloc(gw_page_rect_pages(pages), sizeof *p->sums);
    if (!p || !p->sums || gw_page_dir_create(slots, gw_page_rect_pages(pages), &p->dir) != GW_OK) {
        gw_page_pool_destroy(memory);
        if (p) free(p->sums);
        free(p);
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    }
    p->key = p->former = key;
    p->pages = pages;
    p->pool = memory;
    p->slots = slots;
    p->refs = 1;
    gw_err_t err = gw_shelf_begin_offload(p, ctx);
    if (err == GW_OK)
        *out = p;
    else
        free_pool(p);
    return err;
}

gw_err_t gw_shelf_put(struct gw_shelf *s, struct gw_shelf_key key, struct gw_page_rect pages,
                      struct gw_page_pool *memory, uint32_t slots, struct gw_shelf_pool **out,
                      struct gw_err_ctx *ctx)
{
    struct gw_shelf_pool *p = NULL;
    TRY(create_pool(key, pages, memory, slots, &p, ctx));
    pthread_mutex_lock(&s->lock);
    sweep(s, gw_clock_mono_us());
    gw_err_t err = place(s, p, ctx);
    pthread_mutex_unlock(&s->lock);
    if (err == GW_OK)
        *out = p;
    else
        free_pool(p);
    return err;
}

void gw_shelf_retire(struct gw_shelf *s, struct gw_shelf_pool *p, int64_t lease_us)
{
    gw_shelf_settle(p);
    if (p->offload) gw_page_offload_abandon(p->offload);
    int64_t now_us = gw_clock_mono_us();
    pthread_mutex_lock(&s->lock);
    p->state = RETIRED;
    p->retired_us = now_us;
    p->until_us = now_us + lease_us;
    p->refs--;
    sweep(s, now_us);
    pthread_mutex_unlock(&s->lock);
}

static bool is_same(struct gw_shelf_key a, struct gw_shelf_key b)
{
    return a.term == b.term && a.generation == b.generation;
}

static bool can_be_revived(const struct gw_shelf_pool *p, struct gw_page_rect r, uint32_t slots)
{
    return p->state == RETIRED && p->writers == 0 && p->slots == slots && holds(p, r) &&
           gw_page_rect_pages(p->pages) == gw_page_rect_pages(r);
}

struct gw_shelf_pool *gw_shelf_revive(struct gw_shelf *s, struct gw_shelf_key key, struct gw_page_rect pages,
                                      uint32_t slots)
{
    struct gw_shelf_pool *found = NULL;
    pthread_mutex_lock(&s->lock);
    sweep(s, gw_clock_mono_us());
    for (uint32_t i = 0; i < GW_SHELF_POOLS_MAX; i++) {
        struct gw_shelf_pool *p = s->pools[i];
        if (p && can_be_revived(p, pages, slots) && (!found || p->retired_us > found->retired_us)) found = p;
    }
    if (found) {
        found->former = found->key;
        found->key = key;
        found->state = LIVE;
        found->refs++;
        atomic_store_explicit(&found->steps, 0, memory_order_release);
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

/* A live one by its own key alone: whoever writes under the former one is late. */
static struct gw_shelf_pool *reference(struct gw_shelf *s, struct gw_shelf_key key, bool to_read)
{
    struct gw_shelf_pool *found = NULL;
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < GW_SHELF_POOLS_MAX && !found; i++) {
        struct gw_shelf_pool *p = s->pools[i];
        if (!p || p->state == GONE) continue;
        bool fits = to_read ? is_same(p->key, key) || is_same(p->former, key)
                            : p->state == LIVE && is_same(p->key, key);
        if (fits) found = p;
    }
    if (found) {
        found->refs++;
        found->writers += !to_read;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

struct gw_shelf_pool *gw_shelf_take(struct gw_shelf *s, struct gw_shelf_key key)
{
    return reference(s, key, false);
}

struct gw_shelf_pool *gw_shelf_hold(struct gw_shelf *s, struct gw_shelf_key key)
{
    return reference(s, key, true);
}

static void end_reference(struct gw_shelf *s, struct gw_shelf_pool *p, bool wrote)
{
    pthread_mutex_lock(&s->lock);
    p->refs--;
    p->writers -= wrote;
    sweep(s, gw_clock_mono_us());
    pthread_mutex_unlock(&s->lock);
}

void gw_shelf_give(struct gw_shelf *s, struct gw_shelf_pool *p)
{
    end_reference(s, p, true);
}

void gw_shelf_let_go(struct gw_shelf *s, struct gw_shelf_pool *p)
{
    end_reference(s, p, false);
}

struct gw_shelf_key gw_shelf_key_of(const struct gw_shelf_pool *p)
{
    return p->key;
}

struct gw_page_pool *gw_shelf_memory(const struct gw_shelf_pool *p)
{
    return p->pool;
}

struct gw_page_dir *gw_shelf_dir(const struct gw_shelf_pool *p)
{
    return p->dir;
}

struct gw_page_rect gw_shelf_pages(const struct gw_shelf_pool *p)
{
    return p->pages;
}

uint32_t gw_shelf_slots(const struct gw_shelf_pool *p)
{
    return p->slots;
}

void gw_shelf_stepped(struct gw_shelf_pool *p, uint64_t step)
{
    atomic_store_explicit(&p->steps, step, memory_order_release);
}

static bool is_over(struct gw_shelf *s, const struct gw_shelf_pool *p)
{
    pthread_mutex_lock(&s->lock);
    bool over = p->state != LIVE;
    pthread_mutex_unlock(&s->lock);
    return over;
}

bool gw_shelf_wait_step(struct gw_shelf *s, struct gw_shelf_pool *p, uint64_t step, int64_t deadline_us)
{
    const struct timespec poll = {.tv_nsec = STEP_POLL_US * 1000};
    while (atomic_load_explicit(&p->steps, memory_order_acquire) < step) {
        if (gw_clock_mono_us() >= deadline_us || is_over(s, p)) return false;
        nanosleep(&poll, NULL);
    }
    return true;
}

uint64_t gw_shelf_touched_bytes(struct gw_shelf *s)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&s->lock);
    sweep(s, gw_clock_mono_us());
    for (uint32_t i = 0; i < GW_SHELF_POOLS_MAX; i++)
        if (s->pools[i]) bytes += gw_page_pool_touched_bytes(s->pools[i]->pool);
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

void gw_shelf_sweep(struct gw_shelf *s, int64_t now_us)
{
    pthread_mutex_lock(&s->lock);
    sweep(s, now_us);
    pthread_mutex_unlock(&s->lock);
}

bool gw_shelf_is_wanted(struct gw_shelf *s, int64_t now_us, int64_t first_us, int64_t again_us)
{
    bool wanted = false;
    pthread_mutex_lock(&s->lock);
    sweep(s, now_us);
    for (uint32_t i = 0; i < GW_SHELF_POOLS_MAX; i++) {
        const struct gw_shelf_pool *p = s->pools[i];
        if (!p || p->state != RETIRED) continue;
        wanted |= p->refs > 0 || now_us - p->retired_us < first_us;
        wanted |= p->asked_us >= p->retired_us && now_us - p->asked_us < again_us;
    }
    pthread_mutex_unlock(&s->lock);
    return wanted;
}

/* ---- finding ---- */

/* The next pool from place *at on that may hold r, with a reference. */
static struct gw_shelf_pool *next_holder(struct gw_shelf *s, uint32_t *at, struct gw_page_rect r,
                                         const struct gw_shelf_pool *but)
{
    struct gw_shelf_pool *found = NULL;
    pthread_mutex_lock(&s->lock);
    for (; *at < GW_SHELF_POOLS_MAX && !found; (*at)++) {
        struct gw_shelf_pool *p = s->pools[*at];
        if (p && p != but && p->state != GONE && holds(p, r)) found = p;
    }
    if (found) found->refs++;
    pthread_mutex_unlock(&s->lock);
    return found;
}

/* Page by page; what came over is what was sealed, or it does not count. */
static bool copy_block(const struct gw_shelf_pool *from, uint32_t from_slot, const uint64_t *from_sums,
                       const struct gw_shelf_pool *to, uint32_t to_slot, uint64_t *to_sums)
{
    uint32_t pages = gw_page_rect_pages(to->pages), heads = gw_page_rect_heads(to->pages);
    for (uint32_t i = 0; i < pages; i++) {
        uint32_t bytes,
            index = gw_page_rect_index(from->pages, to->pages.g0 + i / heads, to->pages.h0 + i % heads);
        const uint8_t *source = gw_page_pool_page(from->pool, from_slot, index, &bytes);
        uint8_t *target = gw_page_pool_page(to->pool, to_slot, i, &bytes);
        memcpy(target, source, bytes);
        to_sums[i] = gw_checksum(target, bytes);
        if (to_sums[i] != from_sums[index]) return false;
    }
    return true;
}

static bool copy_from(const struct gw_shelf_pool *from, struct gw_shelf_pool *to, uint32_t slot,
                      const struct gw_block_name *name)
{
    uint32_t from_slot;
    uint64_t *sums = calloc(gw_page_rect_pages(from->pages) + gw_page_rect_pages(to->pages), sizeof *sums);
    if (!sums) return false;
    uint64_t *to_sums = sums + gw_page_rect_pages(from->pages);
    bool ok = gw_page_dir_find(from->dir, name, &from_slot, sums) &&
              copy_block(from, from_slot, sums, to, slot, to_sums) && gw_shelf_fill(to, slot, name, to_sums);
    free(sums);
    return ok;
}

bool gw_shelf_copy(struct gw_shelf *s, struct gw_shelf_pool *to, uint32_t slot,
                   const struct gw_block_name *name)
{
    bool copied = false;
    struct gw_shelf_pool *from;
    gw_shelf_claim(to, slot);
    for (uint32_t at = 0; !copied && (from = next_holder(s, &at, to->pages, to));) {
        copied = copy_from(from, to, slot, name);
        gw_shelf_let_go(s, from);
    }
    return copied;
}

/* ---- for the peer server: a "slot" is the number of a pin ---- */

/* A free pin; the lock is held. */
static bool take_pin(struct gw_shelf *s, uint32_t *out)
{
    if (s->free_pin == NONE) {
        uint32_t cap = s->pins_cap ? 2 * s->pins_cap : 64;
        struct pin *larger = cap <= GW_SHELF_PINS_MAX ? realloc(s->pins, cap * sizeof *larger) : NULL;
        if (!larger) return false;
        for (uint32_t i = s->pins_cap; i < cap; i++) larger[i].next_free = i + 1 < cap ? i + 1 : NONE;
        s->free_pin = s->pins_cap;
        s->pins = larger;
        s->pins_cap = cap;
    }
    *out = s->free_pin;
    s->free_pin = s->pins[*out].next_free;
    s->pins[*out].len = 0;
    return true;
}

/* The block's newest pin, if what it found is still so. */
static bool pin_again(struct gw_shelf *s, const struct gw_block_name *name, uint32_t *out)
{
    uint32_t number = (uint32_t)(uintptr_t)gw_id_map_get(&s->pinned, gw_block_name_id(name)) - 1, slot;
    if (number == NONE) return false;
    struct pin *pin = &s->pins[number];
    for (uint32_t i = 0; i < pin->len; i++)
        if (!gw_page_dir_find(pin->at[i].pool->dir, name, &slot, NULL) || slot != pin->at[i].slot)
            return false;
    pin->holds++;
    *out = number;
    return true;
}

static void fill_pin(struct gw_shelf *s, struct pin *pin, const struct gw_block_name *name)
{
    pin->name = *name;
    pin->holds = 1;
    for (uint32_t i = 0; i < GW_SHELF_POOLS_MAX && pin->len < PIN_POOLS; i++) {
        struct gw_shelf_pool *p = s->pools[i];
        uint32_t slot;
        if (!p || p->state == GONE || !gw_page_dir_find(p->dir, name, &slot, NULL)) continue;
        p->refs++;
        p->asked_us = gw_clock_mono_us();
        pin->at[pin->len].pool = p;
        pin->at[pin->len++].slot = slot;
    }
}

/* Lets a pin go that nobody holds. */
static void free_pin(struct gw_shelf *s, uint32_t number)
{
    struct pin *pin = &s->pins[number];
    for (uint32_t i = 0; i < pin->len; i++) pin->at[i].pool->refs--;
    if ((uintptr_t)gw_id_map_get(&s->pinned, gw_block_name_id(&pin->name)) == (uintptr_t)number + 1)
        gw_id_map_remove(&s->pinned, gw_block_name_id(&pin->name));
    pin->next_free = s->free_pin;
    s->free_pin = number;
}

static bool pin_new(struct gw_shelf *s, const struct gw_block_name *name, uint32_t *out)
{
    if (!take_pin(s, out)) return false;
    fill_pin(s, &s->pins[*out], name);
    gw_id_map_remove(&s->pinned, gw_block_name_id(name));
    if (s->pins[*out].len > 0 &&
        gw_id_map_put(&s->pinned, gw_block_name_id(name), (void *)((uintptr_t)*out + 1)) == GW_OK)
        return true;
    free_pin(s, *out);
    return false;
}

static bool pin_block(void *arg, const struct gw_block_name *name, uint32_t *out)
{
    struct gw_shelf *s = arg;
    pthread_mutex_lock(&s->lock);
    bool found = pin_again(s, name, out) || pin_new(s, name, out);
    pthread_mutex_unlock(&s->lock);
    return found;
}

static void unpin_block(void *arg, uint32_t number)
{
    struct gw_shelf *s = arg;
    pthread_mutex_lock(&s->lock);
    if (--s->pins[number].holds == 0) {
        free_pin(s, number);
        sweep(s, gw_clock_mono_us());
    }
    pthread_mutex_unlock(&s->lock);
}

static const uint8_t *pinned_page(void *arg, uint32_t number, struct gw_page_id id, uint32_t *bytes,
                                  uint64_t *checksum)
{
    struct gw_shelf *s = arg;
    const uint8_t *found = NULL;
    gw_failpoint("page", "served");
    pthread_mutex_lock(&s->lock);
    const struct pin *pin = &s->pins[number];
    for (uint32_t i = 0; i < pin->len && !found; i++) {
        const struct gw_shelf_pool *p = pin->at[i].pool;
        if (!gw_page_rect_has(p->pages, id.group, id.head)) continue;
        uint32_t index = gw_page_rect_index(p->pages, id.group, id.head);
        if (gw_page_dir_sum(p->dir, pin->at[i].slot, &pin->name, index, checksum))
            found = gw_page_pool_page(p->pool, pin->at[i].slot, index, bytes);
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

struct gw_page_source gw_shelf_source(struct gw_shelf *s)
{
    return (struct gw_page_source){.arg = s, .pin = pin_block, .unpin = unpin_block, .page = pinned_page};
}
