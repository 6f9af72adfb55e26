/* For tests of worker/stores.h: buddies with page ports, each with memory for others' pages. */
#ifndef GW_TESTS_STORES_FIXTURE_H
#define GW_TESTS_STORES_FIXTURE_H

#include <stdio.h>

#include "migrate/peer_server.h"
#include "migrate/store_peer_server.h"
#include "tests/lib/store_fixture.h"
#include "worker/stores.h"

#define BUDDY_BYTES ((size_t)64 << 20)

static struct gw_tls *stores_tls; /* NULL: plaintext */

struct buddy {
    struct gw_store_peer_server *memory;
    struct gw_peer_server *port;
    bool mute; /* takes connections, and says nothing */
    struct gw_socket sockets[8];
    uint32_t sockets_len;
};

static inline bool buddy_pin(void *arg, const struct gw_block_name *name, uint32_t *slot)
{
    (void)arg, (void)name, (void)slot;
    return false;
}

static inline void buddy_unpin(void *arg, uint32_t slot)
{
    (void)arg, (void)slot;
}

static inline const uint8_t *buddy_page(void *arg, uint32_t slot, struct gw_page_id id, uint32_t *bytes,
                                        uint64_t *checksum)
{
    (void)arg, (void)slot, (void)id, (void)bytes, (void)checksum;
    return NULL;
}

static inline void buddy_serve(void *arg, struct gw_socket socket)
{
    struct buddy *b = arg;
    if (!b->mute)
        gw_store_peer_server_serve(b->memory, socket);
    else if (b->sockets_len < 8)
        b->sockets[b->sockets_len++] = socket;
}

static inline void buddy_open_with(struct buddy *b, const void *key, size_t key_len, bool mute)
{
    const struct gw_store_peer_server_config memory = {.max_bytes = BUDDY_BYTES};
    *b = (struct buddy){.mute = mute};
    assert_int_equal(gw_store_peer_server_create(&memory, &b->memory, NULL), GW_OK);
    const struct gw_peer_server_config port = {
        .host = "127.0.0.1",
        .unix_socket = true,
        .key = key,
        .key_len = key_len,
        .tls = stores_tls,
        .source = {.arg = b, .pin = buddy_pin, .unpin = buddy_unpin, .page = buddy_page},
        .store = buddy_serve,
        .store_arg = b};
    assert_int_equal(gw_peer_server_create(&port, &b->port, NULL), GW_OK);
}

static inline void buddy_open(struct buddy *b)
{
    buddy_open_with(b, store_key, sizeof store_key, false);
}

static inline void buddy_close(struct buddy *b)
{
    gw_peer_server_destroy(b->port);
    gw_store_peer_server_destroy(b->memory);
    for (uint32_t i = 0; i < b->sockets_len; i++) gw_socket_close(&b->sockets[i]);
    *b = (struct buddy){0};
}

static inline uint64_t buddy_blocks(struct buddy *b)
{
    struct gw_store_peer_server_stats stats;
    gw_store_peer_server_stats(b->memory, &stats);
    return stats.blocks;
}

/* Buddies [0, len) as the controller names them; number i is on instance "i-<i>". */
static inline void name_buddies(struct gw_stores *s, struct buddy *buddies, uint32_t len)
{
    struct gw_store_host hosts[GW_WIRE_STORES_MAX];
    for (uint32_t i = 0; i < len; i++) {
        snprintf(hosts[i].address, sizeof hosts[i].address, "%s", gw_peer_server_address(buddies[i].port));
        snprintf(hosts[i].instance, sizeof hosts[i].instance, "i-%u", i);
    }
    gw_stores_set_peers(s, &(struct gw_msg_stores){.len = len, .hosts = hosts});
}

static inline struct gw_stores *stores_on(const char *instance)
{
    struct gw_stores *s;
    const struct gw_stores_config config = {.seal = &store_seal, .instance = instance, .tls = stores_tls};
    assert_int_equal(gw_stores_create(&config, &s, NULL), GW_OK);
    return s;
}

static inline void stores_until_up(struct gw_stores *s, uint32_t servers)
{
    int64_t deadline_us = gw_clock_mono_us() + STORE_WAIT_US;
    struct gw_stores_stats stats;
    for (;; usleep(1000)) {
        gw_stores_stats(s, &stats);
        if (stats.servers_up == servers) return;
        if (gw_clock_mono_us() > deadline_us) fail_msg("%u servers up, not %u", stats.servers_up, servers);
    }
}

/* Puts block i; GW_STORE_OUTCOMES: nobody could be asked. */
static inline enum gw_store_outcome stores_put(struct gw_stores *s, uint32_t i)
{
    struct gw_store_page pages[STORE_PAGES];
    struct gw_block_name name = store_name(i);
    struct waited w;
    waited_init(&w);
    w.bytes = malloc((size_t)STORE_PAGES * SMALL_PAGE);
    store_pages(pages, w.bytes, SMALL_PAGE);
    for (uint32_t k = 0; k < STORE_PAGES; k++) store_fill(pages[k].bytes, i, k, SMALL_PAGE);
    const struct gw_store_then then = then_of(&w, STORE_CALL_US);
    enum gw_store_outcome outcome = GW_STORE_OUTCOMES;
    if (gw_stores_put(s, &name, pages, STORE_PAGES, &then) == GW_OK) outcome = waited_for(&w);
    waited_fini(&w);
    return outcome;
}

/* Its pages at that turn, as bits; they are checked. */
static inline uint32_t stores_get(struct gw_stores *s, uint32_t turn, uint32_t i)
{
    struct gw_store_page pages[STORE_PAGES];
    struct gw_block_name name = store_name(i);
    struct waited w;
    uint32_t bits = 0;
    waited_init(&w);
    w.bytes = calloc(STORE_PAGES, SMALL_PAGE);
    store_pages(pages, w.bytes, SMALL_PAGE);
    const struct gw_store_then then = then_of(&w, STORE_CALL_US);
    if (gw_stores_get(s, turn, &name, pages, STORE_PAGES, &then) == GW_OK) {
        waited_for(&w);
        bits = got_pages(&w, i, SMALL_PAGE);
    }
    waited_fini(&w);
    return bits;
}

#endif
