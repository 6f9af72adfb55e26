/* What the tests of page transfers share: pools in plain memory, whose pages say by their bytes whose they are. */
#ifndef GW_TESTS_LIB_PAGE_FIXTURE_H
#define GW_TESTS_LIB_PAGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "migrate/checksum.h"
#include "migrate/peer_fetch.h"
#include "migrate/peer_server.h"

#define PAGE_KEY         "sixteen bytes or more"
#define PAGE_GROUPS      4
#define PAGE_HEADS       8
#define PAGE_LAYER_BYTES 512u
#define PAGE_LAYERS      2u /* per group; the last group has one */
#define PAGE_SLOTS       96
#define PAGE_LATE_US     (30 * GW_US_PER_S) /* what should not pass */

static const struct gw_page_model PAGE_MODEL = {{1, 2, 3}, 4711, PAGE_LAYER_BYTES};
static const struct gw_page_fence PAGE_FENCE = {.term = 7, .generation = 11, .pipeline = 3};

/* A rank's pool. */
struct page_pool {
    struct gw_page_rect rect;
    uint32_t slots; /* that may be claimed */
    pthread_mutex_t lock;
    struct pooled {
        enum { POOLED_FREE, POOLED_CLAIMED, POOLED_SEALED } state;
        struct gw_block_name name;
        uint32_t pins;
        uint8_t *bytes;
        uint64_t sums[PAGE_GROUPS * PAGE_HEADS]; /* by gw_page_rect_index */
    } blocks[PAGE_SLOTS];
    uint32_t claims, abandons, commits, most_pins;
    struct gw_page_id lacks; /* a page that it says it does not hold, unless it is 0xFFFF */
    /* Whose page is asked for: what becomes of its slot before a byte is sent. */
    enum { SLOT_STAYS, SLOT_IS_OVERWRITTEN, SLOT_IS_ANOTHERS } when_asked;
};

static inline struct gw_page_rect page_rect(uint32_t g0, uint32_t g1, uint32_t h0, uint32_t h1)
{
    return (struct gw_page_rect){(uint16_t)g0, (uint16_t)g1, (uint16_t)h0, (uint16_t)h1};
}

static inline struct gw_block_name page_name(uint32_t i)
{
    struct gw_block_name name;
    uint64_t a = gw_mix64(i + 1), b = gw_mix64(a);
    memcpy(name.bytes, &a, sizeof a);
    memcpy(name.bytes + sizeof a, &b, sizeof b);
    return name;
}

static inline uint32_t page_bytes(uint32_t group)
{
    return PAGE_LAYER_BYTES * (group + 1 == PAGE_GROUPS ? 1 : PAGE_LAYERS);
}

/* The bytes that a page must have, whoever holds it. */
static inline void page_fill(uint8_t *to, const struct gw_block_name *name, struct gw_page_id id)
{
    uint64_t seed = gw_hash64(name->bytes, sizeof name->bytes, (uint64_t)id.group << 32 | id.head);
    for (uint32_t i = 0; i < page_bytes(id.group) / 8; i++) {
        uint64_t word = gw_mix64(seed + i);
        memcpy(to + 8 * (size_t)i, &word, sizeof word);
    }
}

static inline uint8_t *pool_page(struct page_pool *pool, uint32_t slot, struct gw_page_id id, uint32_t *bytes)
{
    size_t at = 0;
    if (!gw_page_rect_has(pool->rect, id.group, id.head)) return NULL;
    if (id.group == pool->lacks.group && id.head == pool->lacks.head) return NULL;
    for (uint32_t g = pool->rect.g0; g < id.group; g++)
        at += (size_t)page_bytes(g) * gw_page_rect_heads(pool->rect);
    *bytes = page_bytes(id.group);
    return pool->blocks[slot].bytes + at + (size_t)(id.head - pool->rect.h0) * *bytes;
}

static inline void pool_open(struct page_pool *pool, struct gw_page_rect rect)
{
    memset(pool, 0, sizeof *pool);
    pool->rect = rect;
    pool->slots = PAGE_SLOTS;
    pool->lacks = (struct gw_page_id){0xFFFF, 0xFFFF};
    pthread_mutex_init(&pool->lock, NULL);
    for (int i = 0; i < PAGE_SLOTS; i++)
        pool->blocks[i].bytes = malloc((size_t)PAGE_GROUPS * PAGE_HEADS * page_bytes(0));
}

static inline void pool_close(struct page_pool *pool)
{
    for (int i = 0; i < PAGE_SLOTS; i++) free(pool->blocks[i].bytes);
    pthread_mutex_destroy(&pool->lock);
}

/* Seals block i with the bytes that it must have. */
static inline void pool_seal(struct page_pool *pool, uint32_t slot, uint32_t i)
{
    struct pooled *b = &pool->blocks[slot];
    uint32_t bytes = 0;
    b->name = page_name(i);
    for (uint32_t g = pool->rect.g0; g < pool->rect.g1; g++)
        for (uint32_t h = pool->rect.h0; h < pool->rect.h1; h++) {
            struct gw_page_id id = {(uint16_t)g, (uint16_t)h};
            uint8_t *page = pool_page(pool, slot, id, &bytes);
            if (!page) continue;
            page_fill(page, &b->name, id);
            b->sums[gw_page_rect_index(pool->rect, g, h)] = gw_checksum(page, bytes);
        }
    b->state = POOLED_SEALED;
}

static inline struct pooled *pool_find(struct page_pool *pool, const struct gw_block_name *name)
{
    for (int i = 0; i < PAGE_SLOTS; i++)
        if (pool->blocks[i].state == POOLED_SEALED && memcmp(&pool->blocks[i].name, name, sizeof *name) == 0)
            return &pool->blocks[i];
    return NULL;
}

/* Does it have block i, each wanted page as it must be? */
static inline bool pool_has(struct page_pool *pool, uint32_t i)
{
    uint8_t want[PAGE_LAYERS * PAGE_LAYER_BYTES];
    struct gw_block_name name = page_name(i);
    struct pooled *b = pool_find(pool, &name);
    uint32_t bytes = 0;
    if (!b) return false;
    for (uint32_t g = pool->rect.g0; g < pool->rect.g1; g++)
        for (uint32_t h = pool->rect.h0; h < pool->rect.h1; h++) {
            struct gw_page_id id = {(uint16_t)g, (uint16_t)h};
            const uint8_t *page = pool_page(pool, (uint32_t)(b - pool->blocks), id, &bytes);
            page_fill(want, &name, id);
            if (memcmp(page, want, bytes) != 0) fail_msg("block %u: page %u,%u has wrong bytes", i, g, h);
            if (b->sums[gw_page_rect_index(pool->rect, g, h)] != gw_checksum(want, bytes))
                fail_msg("block %u: page %u,%u has a wrong checksum", i, g, h);
        }
    return true;
}

static inline uint32_t pool_count(struct page_pool *pool, int state)
{
    uint32_t n = 0;
    for (int i = 0; i < PAGE_SLOTS; i++) n += pool->blocks[i].state == (unsigned)state;
    return n;
}

static inline uint32_t pool_pins(struct page_pool *pool)
{
    uint32_t n = 0;
    pthread_mutex_lock(&pool->lock);
    for (int i = 0; i < PAGE_SLOTS; i++) n += pool->blocks[i].pins;
    pthread_mutex_unlock(&pool->lock);
    return n;
}

/* ---- what server and fetch are given ---- */

static inline bool source_pin(void *arg, const struct gw_block_name *name, uint32_t *slot)
{
    struct page_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    struct pooled *b = pool_find(pool, name);
    if (b) {
        *slot = (uint32_t)(b - pool->blocks);
        if (++b->pins > pool->most_pins) pool->most_pins = b->pins;
    }
    pthread_mutex_unlock(&pool->lock);
    return b != NULL;
}

static inline void source_unpin(void *arg, uint32_t slot)
{
    struct page_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    assert_true(pool->blocks[slot].pins > 0);
    pool->blocks[slot].pins--;
    pthread_mutex_unlock(&pool->lock);
}

static inline const uint8_t *source_page(void *arg, uint32_t slot, struct gw_page_id id, uint32_t *bytes,
                                         uint64_t *checksum)
{
    struct page_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    if (pool->when_asked == SLOT_IS_ANOTHERS) pool_seal(pool, slot, 1000 + slot);
    uint8_t *page = pool_page(pool, slot, id, bytes);
    if (page) *checksum = pool->blocks[slot].sums[gw_page_rect_index(pool->rect, id.group, id.head)];
    if (page && pool->when_asked == SLOT_IS_OVERWRITTEN) memset(page, 0xA5, 16);
    pthread_mutex_unlock(&pool->lock);
    return page;
}

static inline gw_err_t sink_claim(void *arg, const struct gw_block_name *name, uint32_t *slot)
{
    struct page_pool *pool = arg;
    for (uint32_t i = 0; i < pool->slots; i++) {
        struct pooled *b = &pool->blocks[i];
        if (b->state != POOLED_FREE) continue;
        b->state = POOLED_CLAIMED;
        b->name = *name;
        pool->claims++;
        *slot = i;
        return GW_OK;
    }
    return GW_ERR_LIMIT;
}

static inline uint8_t *sink_page(void *arg, uint32_t slot, struct gw_page_id id, uint32_t *bytes)
{
    return pool_page(arg, slot, id, bytes);
}

static inline void sink_commit(void *arg, uint32_t slot, const struct gw_block_name *name,
                               const uint64_t *sums)
{
    struct page_pool *pool = arg;
    assert_int_equal(pool->blocks[slot].state, POOLED_CLAIMED);
    assert_memory_equal(&pool->blocks[slot].name, name, sizeof *name);
    memcpy(pool->blocks[slot].sums, sums, gw_page_rect_pages(pool->rect) * sizeof *sums);
    pool->blocks[slot].state = POOLED_SEALED;
    pthread_mutex_lock(&pool->lock);
    pool->commits++;
    pthread_mutex_unlock(&pool->lock);
}

static inline void sink_abandon(void *arg, uint32_t slot)
{
    struct page_pool *pool = arg;
    assert_int_equal(pool->blocks[slot].state, POOLED_CLAIMED);
    pool->blocks[slot].state = POOLED_FREE;
    pool->abandons++;
}

static inline struct gw_page_source pool_source(struct page_pool *pool)
{
    return (struct gw_page_source){pool, source_pin, source_unpin, source_page};
}

static inline struct gw_page_sink pool_sink(struct page_pool *pool)
{
    return (struct gw_page_sink){pool, sink_claim, sink_page, sink_commit, sink_abandon};
}

/* What servers, fetches and pullers of a test speak; NULL: plaintext. */
static struct gw_tls *page_tls;

static inline void page_tls_on(const char *key)
{
    const struct gw_tls_config config = {.key = key, .key_len = strlen(key), .everywhere = true};
    assert_int_equal(gw_tls_create(&config, &page_tls, NULL), GW_OK);
}

static inline void page_tls_off(void)
{
    gw_tls_destroy(page_tls);
    page_tls = NULL;
}

static inline struct gw_peer_server_config server_config(struct page_pool *pool)
{
    return (struct gw_peer_server_config){.host = "127.0.0.1",
                                          .key = PAGE_KEY,
                                          .key_len = strlen(PAGE_KEY),
                                          .tls = page_tls,
                                          .model = PAGE_MODEL,
                                          .lend_min_bytes = 1,
                                          .source = pool_source(pool)};
}

static inline struct gw_peer_server *server_open(const struct gw_peer_server_config *config)
{
    struct gw_peer_server *server = NULL;
    struct gw_err_ctx ctx = {0};
    if (gw_peer_server_create(config, &server, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    return server;
}

/* A fetch of everything that pool is for, from one source; the caller may add others. */
static inline struct gw_peer_fetch_config fetch_config(struct page_pool *pool,
                                                       const struct gw_fetch_source *sources,
                                                       uint32_t sources_len)
{
    return (struct gw_peer_fetch_config){.key = PAGE_KEY,
                                         .key_len = strlen(PAGE_KEY),
                                         .tls = page_tls,
                                         .fence = PAGE_FENCE,
                                         .model = PAGE_MODEL,
                                         .sink = pool_sink(pool),
                                         .want = pool->rect,
                                         .sources = sources,
                                         .sources_len = sources_len};
}

static inline struct gw_fetch_source fetch_source(const char *address, struct gw_page_rect pages)
{
    struct gw_fetch_source s = {.pages = pages};
    snprintf(s.address, sizeof s.address, "%s", address);
    return s;
}

/* What a run of a fetch came to. */
struct page_run {
    struct gw_peer_fetch *fetch;
    struct gw_block_name names[PAGE_SLOTS];
    bool there[PAGE_SLOTS];
    uint32_t len;
    int64_t wait_us, took_us;
    struct gw_fetch_result result;
    struct gw_err_ctx ctx;
    gw_err_t err;
};

/* Fetches blocks [first, first + len). */
static inline void run_fetch(struct page_run *r, uint32_t first, uint32_t len)
{
    int64_t start_us = gw_clock_mono_us();
    for (uint32_t i = 0; i < len; i++) r->names[i] = page_name(first + i);
    r->len = len;
    gw_err_reset(&r->ctx);
    int64_t deadline_us = start_us + (r->wait_us ? r->wait_us : PAGE_LATE_US);
    r->err = gw_peer_fetch_run(r->fetch, r->names, len, deadline_us, r->there, &r->result, &r->ctx);
    r->took_us = gw_clock_mono_us() - start_us;
}

static inline void open_fetch(struct page_run *r, const struct gw_peer_fetch_config *config)
{
    memset(r, 0, sizeof *r);
    if (gw_peer_fetch_create(config, &r->fetch, &r->ctx) != GW_OK) fail_msg("%s", r->ctx.text);
}

static inline uint32_t count_there(const struct page_run *r)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->len; i++) n += r->there[i];
    return n;
}

#endif
