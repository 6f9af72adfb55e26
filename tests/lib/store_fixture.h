/* For tests of stores: blocks whose bytes follow from their number, calls that can be waited for. */
#ifndef GW_TESTS_STORE_FIXTURE_H
#define GW_TESTS_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "migrate/store.h"

#define STORE_PAGES   4 /* of a block: 2 layer groups × 2 KV heads */
#define STORE_NAMES   64
#define STORE_WAIT_US (60 * GW_US_PER_S) /* for what must come */
#define STORE_CALL_US (30 * GW_US_PER_S) /* a deadline that is not meant to pass */
#define SMALL_PAGE    ((uint32_t)4096)
#define BIG_PAGE      ((uint32_t)256 << 10)

static const char store_key[] = "the cluster key of the tests";
static const uint8_t store_fingerprint[16] = {1, 2, 3};
static const struct gw_page_seal_config store_seal = {
    store_key, sizeof store_key, store_fingerprint, sizeof store_fingerprint, "cpu-bf16dot-1", "bf16"};

struct waited {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int times; /* done was called */
    enum gw_store_outcome outcome;
    bool got[STORE_NAMES];
    uint32_t got_len;
    int64_t done_us;
    uint8_t *bytes; /* of a get: [STORE_PAGES][page_bytes] */
};

static inline struct gw_block_name store_name(uint32_t i)
{
    uint8_t digest[GW_SHA256_BYTES];
    struct gw_block_name name;
    gw_hmac_sha256("n", 1, &i, sizeof i, digest);
    memcpy(name.bytes, digest, sizeof name.bytes);
    return name;
}

static inline void store_fill(uint8_t *bytes, uint32_t block, uint32_t page, uint32_t len)
{
    uint64_t x = gw_mix64((uint64_t)block << 32 | page);
    for (uint32_t k = 0; k + 8 <= len; k += 8, x = gw_mix64(x)) memcpy(bytes + k, &x, 8);
}

static inline void store_pages(struct gw_store_page *pages, uint8_t *bytes, uint32_t len)
{
    for (uint16_t i = 0; i < STORE_PAGES; i++)
        pages[i] = (struct gw_store_page){{i / 2, i % 2}, len, bytes + (size_t)i * len};
}

static inline void waited_init(struct waited *w)
{
    pthread_condattr_t attr;
    *w = (struct waited){0};
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attr);
    pthread_condattr_destroy(&attr);
}

static inline void waited_fini(struct waited *w)
{
    free(w->bytes);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
}

static void waited_done(void *arg, enum gw_store_outcome outcome, const bool *got, uint32_t got_len)
{
    struct waited *w = arg;
    pthread_mutex_lock(&w->lock);
    w->times++;
    w->outcome = outcome;
    w->got_len = got_len;
    for (uint32_t i = 0; i < got_len && i < STORE_NAMES; i++) w->got[i] = got[i];
    w->done_us = gw_clock_mono_us();
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static inline enum gw_store_outcome waited_for(struct waited *w)
{
    int64_t deadline_us = gw_clock_mono_us() + STORE_WAIT_US;
    const struct timespec t = {deadline_us / GW_US_PER_S, deadline_us % GW_US_PER_S * 1000};
    pthread_mutex_lock(&w->lock);
    while (w->times == 0)
        if (pthread_cond_timedwait(&w->changed, &w->lock, &t) != 0) break;
    int times = w->times;
    pthread_mutex_unlock(&w->lock);
    if (times != 1) fail_msg("done was called %d times", times);
    return w->outcome;
}

static inline struct gw_store_then then_of(struct waited *w, int64_t wait_us)
{
    return (struct gw_store_then){gw_clock_mono_us() + wait_us, waited_done, w};
}

/* Begins a put of block i; w->bytes holds its pages. */
static inline gw_err_t begin_put(struct gw_store *s, uint32_t i, uint32_t page_bytes, int64_t wait_us,
                                 struct waited *w)
{
    struct gw_store_page pages[STORE_PAGES];
    struct gw_block_name name = store_name(i);
    const struct gw_store_then then = then_of(w, wait_us);
    w->bytes = malloc((size_t)STORE_PAGES * page_bytes);
    store_pages(pages, w->bytes, page_bytes);
    for (uint32_t k = 0; k < STORE_PAGES; k++) store_fill(pages[k].bytes, i, k, page_bytes);
    return gw_store_put(s, &name, pages, STORE_PAGES, &then);
}

static inline gw_err_t begin_get(struct gw_store *s, uint32_t i, uint32_t page_bytes, int64_t wait_us,
                                 struct waited *w)
{
    struct gw_store_page pages[STORE_PAGES];
    struct gw_block_name name = store_name(i);
    const struct gw_store_then then = then_of(w, wait_us);
    w->bytes = calloc(STORE_PAGES, page_bytes);
    store_pages(pages, w->bytes, page_bytes);
    return gw_store_get(s, &name, pages, STORE_PAGES, &then);
}

static inline enum gw_store_outcome put_block(struct gw_store *s, uint32_t i, uint32_t page_bytes,
                                              int64_t wait_us)
{
    struct waited w;
    waited_init(&w);
    assert_int_equal(begin_put(s, i, page_bytes, wait_us, &w), GW_OK);
    enum gw_store_outcome outcome = waited_for(&w);
    waited_fini(&w);
    return outcome;
}

/* Pages that were got, as bits; each has the bytes that were put. */
static inline uint32_t got_pages(const struct waited *w, uint32_t i, uint32_t page_bytes)
{
    uint8_t *want = malloc(page_bytes);
    uint32_t bits = 0;
    for (uint32_t k = 0; k < w->got_len; k++) {
        if (!w->got[k]) continue;
        bits |= 1u << k;
        store_fill(want, i, k, page_bytes);
        assert_memory_equal(w->bytes + (size_t)k * page_bytes, want, page_bytes);
    }
    free(want);
    return bits;
}

#define ALL_PAGES ((1u << STORE_PAGES) - 1)

static inline uint32_t get_block(struct gw_store *s, uint32_t i, uint32_t page_bytes,
                                 enum gw_store_outcome *outcome)
{
    struct waited w;
    waited_init(&w);
    assert_int_equal(begin_get(s, i, page_bytes, STORE_CALL_US, &w), GW_OK);
    *outcome = waited_for(&w);
    uint32_t bits = got_pages(&w, i, page_bytes);
    waited_fini(&w);
    return bits;
}

static inline void expect_block(struct gw_store *s, uint32_t i, uint32_t page_bytes, uint32_t want)
{
    enum gw_store_outcome outcome;
    assert_int_equal(get_block(s, i, page_bytes, &outcome), want);
    assert_int_equal(outcome, GW_STORE_OK);
}

/* Which of blocks [0, len) are there, by their page (0, 0); as bits. */
static inline uint64_t has_blocks(struct gw_store *s, uint32_t len, enum gw_store_outcome *outcome)
{
    struct gw_block_name names[STORE_NAMES];
    struct waited w;
    uint64_t bits = 0;
    waited_init(&w);
    for (uint32_t i = 0; i < len; i++) names[i] = store_name(i);
    const struct gw_store_then then = then_of(&w, STORE_CALL_US);
    assert_int_equal(gw_store_has(s, names, len, (struct gw_page_id){0, 0}, &then), GW_OK);
    *outcome = waited_for(&w);
    assert_int_equal(w.got_len, len);
    for (uint32_t i = 0; i < len; i++) bits |= (uint64_t)w.got[i] << i;
    waited_fini(&w);
    return bits;
}

/* Waits until so many servers are up. */
static inline void until_up(struct gw_store *s, uint32_t servers)
{
    int64_t deadline_us = gw_clock_mono_us() + STORE_WAIT_US;
    struct gw_store_stats stats;
    for (;;) {
        gw_store_stats(s, &stats);
        if (stats.servers_up == servers) return;
        if (gw_clock_mono_us() > deadline_us) fail_msg("%u servers up, not %u", stats.servers_up, servers);
        usleep(1000);
    }
}

/* Puts block i until that works. */
static inline void until_put(struct gw_store *s, uint32_t i, uint32_t page_bytes)
{
    int64_t deadline_us = gw_clock_mono_us() + STORE_WAIT_US;
    while (put_block(s, i, page_bytes, STORE_CALL_US) != GW_STORE_OK) {
        if (gw_clock_mono_us() > deadline_us) fail_msg("no put of block %u succeeds", i);
        usleep(5000);
    }
}

static inline struct gw_store_stats stats_of(struct gw_store *s)
{
    struct gw_store_stats stats;
    gw_store_stats(s, &stats);
    return stats;
}

#endif
