#include "worker/stores.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/thread.h"
#include "migrate/store_peer.h"
#include "migrate/store_redis.h"
#include "worker/stores_internal.h"

#define STALL_US (1 * GW_US_PER_S) /* a store that owes pages for so long costs more than computing them */

/* ---- which place ---- */

static uint64_t seed_of(const char *text)
{
    return gw_hash64(text, strlen(text), 0);
}

/* Names are HMACs: eight of their bytes are as good as all. */
static uint64_t score(uint64_t seed, const struct gw_block_name *name)
{
    uint64_t n;
    memcpy(&n, name->bytes, sizeof n);
    return gw_mix64(seed ^ n);
}

/* The best place for a block that is not on the instance `but` (NULL: on any); NULL if there is none. */
static struct place *best_place(const struct gw_stores *s, const struct gw_block_name *name, const char *but)
{
    struct place *best = NULL;
    uint64_t best_instance = 0, best_own = 0;
    for (uint32_t i = 0; i < s->places_len; i++) {
        struct place *p = s->places[i];
        uint64_t instance = score(p->instance_seed, name), own = score(p->seed, name);
        if (but && strcmp(p->instance, but) == 0) continue;
        if (best && (instance < best_instance || (instance == best_instance && own < best_own))) continue;
        best = p;
        best_instance = instance;
        best_own = own;
    }
    return best;
}

struct place *stores_place_for(const struct gw_stores *s, const struct gw_block_name *name, uint32_t turn)
{
    if (s->redis) return turn == 1 ? NULL : s->places[0];
    if (turn == GW_STORES_OF_PUT) return best_place(s, name, s->instance);
    struct place *first = best_place(s, name, NULL);
    return turn == 0 || !first ? first : best_place(s, name, first->instance);
}

/* A put that would go to another zone although that is spent goes to where readers look next, if that is near. */
static struct place *affordable(const struct gw_stores *s, const struct gw_block_name *name, struct place *p,
                                int64_t now_us)
{
    if (!p || s->redis || s->far.bytes_s <= 0 || now_us >= s->far.due_us ||
        !gw_traffic_is_far(s->traffic, p->address))
        return p;
    struct place *second = stores_place_for(s, name, 1);
    bool near = second && strcmp(second->instance, s->instance) != 0 &&
                !gw_traffic_is_far(s->traffic, second->address);
    return near ? second : NULL;
}

bool stores_is_up(const struct gw_stores *s, const struct place *p, int64_t now_us)
{
    struct gw_store_stats stats;
    if (now_us < p->rest_until_us) return false;
    if (!s->redis) return p->connected;
    gw_store_stats(p->store, &stats);
    return stats.servers_up > 0;
}

/* ---- calls ---- */

/* Pages of a block are of one size, or nearly: of a get that brought some that is what is counted. */
static uint64_t moved_bytes(const struct call *c, enum gw_store_outcome outcome, const bool *got,
                            uint32_t got_len)
{
    uint32_t n = 0;
    if (c->put) return outcome == GW_STORE_OK ? c->bytes : 0;
    for (uint32_t i = 0; i < got_len; i++) n += got[i];
    return c->pages_len ? c->bytes * n / c->pages_len : 0;
}

static void note_outcome(struct place *p, enum gw_store_outcome outcome)
{
    int64_t now_us = gw_clock_mono_us();
    pthread_mutex_lock(&p->stores->lock);
    if (outcome == GW_STORE_OK) p->rest_us = 0;
    if (outcome == GW_STORE_LATE && now_us >= p->rest_until_us) {
        int64_t longest_us = GW_STORES_REST_MAX_MS * GW_US_PER_MS;
        p->rest_us = p->rest_us ? 2 * p->rest_us : GW_STORES_REST_MS * GW_US_PER_MS;
        if (p->rest_us > longest_us) p->rest_us = longest_us;
        p->rest_until_us = now_us + p->rest_us;
    }
    pthread_mutex_unlock(&p->stores->lock);
}

static void on_done(void *arg, enum gw_store_outcome outcome, const bool *got, uint32_t got_len)
{
    struct call *c = arg;
    note_outcome(c->place, outcome);
    gw_traffic_add(c->moved, moved_bytes(c, outcome, got, got_len));
    c->then.done(c->then.arg, outcome, got, got_len);
    free(c);
}

struct call *stores_call_new(struct place *p, const struct gw_store_then *then, struct gw_store_then *ours)
{
    struct call *c = malloc(sizeof *c);
    if (!c) return NULL;
    *c = (struct call){.place = p, .then = *then};
    *ours = (struct gw_store_then){.deadline_us = then->deadline_us, .done = on_done, .arg = c};
    return c;
}

/* The lock is held: a place that is in the list is not closed meanwhile. */
static gw_err_t call_pages(struct place *p, bool put, const struct gw_block_name *name,
                           const struct gw_store_page *pages, uint32_t pages_len,
                           const struct gw_store_then *then)
{
    struct gw_store_then ours;
    struct call *c = stores_call_new(p, then, &ours);
    if (!c) return GW_ERR_MEMORY;
    c->put = put;
    c->pages_len = pages_len;
    for (uint32_t i = 0; i < pages_len; i++) c->bytes += pages[i].len;
    if (!p->stores->redis) c->moved = gw_traffic_counter(p->stores->traffic, GW_TRAFFIC_STORES, p->address);
    if (put && gw_traffic_is_far(p->stores->traffic, p->address))
        gw_rate_charge(&p->stores->far, c->bytes, gw_clock_mono_us());
    gw_err_t err = put ? gw_store_put(p->store, name, pages, pages_len, &ours)
                       : gw_store_get(p->store, name, pages, pages_len, &ours);
    if (err != GW_OK) free(c);
    return err;
}

static gw_err_t with_place(struct gw_stores *s, uint32_t turn, const struct gw_block_name *name,
                           const struct gw_store_page *pages, uint32_t pages_len,
                           const struct gw_store_then *then)
{
    gw_err_t err = GW_ERR_NOT_FOUND;
    int64_t now_us = gw_clock_mono_us();
    pthread_mutex_lock(&s->lock);
    struct place *hashed = s->ending ? NULL : stores_place_for(s, name, turn);
    struct place *p = turn == GW_STORES_OF_PUT ? affordable(s, name, hashed, now_us) : hashed;
    if (hashed && !p) err = GW_ERR_LIMIT;
    if (p && stores_is_up(s, p, now_us))
        err = call_pages(p, turn == GW_STORES_OF_PUT, name, pages, pages_len, then);
    pthread_mutex_unlock(&s->lock);
    return err;
}

gw_err_t gw_stores_put(struct gw_stores *s, const struct gw_block_name *name,
                       const struct gw_store_page *pages, uint32_t pages_len,
                       const struct gw_store_then *then)
{
    return with_place(s, GW_STORES_OF_PUT, name, pages, pages_len, then);
}

gw_err_t gw_stores_get(struct gw_stores *s, uint32_t turn, const struct gw_block_name *name,
                       const struct gw_store_page *pages, uint32_t pages_len,
                       const struct gw_store_then *then)
{
    assert(turn < GW_STORES_TURNS);
    return with_place(s, turn, name, pages, pages_len, then);
}

uint32_t gw_stores_part(const struct gw_store_page *pages, uint32_t pages_len)
{
    uint64_t bytes = 0;
    uint32_t len = 0;
    for (; len < pages_len && len < GW_STORE_PAGES_MAX; len++) {
        bytes += pages[len].len;
        if (len > 0 && bytes > GW_STORE_CALL_BYTES_MAX) break;
    }
    return len;
}

bool gw_stores_ready(struct gw_stores *s)
{
    int64_t now_us = gw_clock_mono_us();
    bool ready = false;
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < s->places_len && !ready; i++)
        ready = stores_is_up(s, s->places[i], now_us) &&
                (s->redis || strcmp(s->places[i]->instance, s->instance));
    pthread_mutex_unlock(&s->lock);
    return ready;
}

/* ---- buddies ---- */

static void on_left(void *arg, uint32_t peer)
{
    struct place *p = arg;
    (void)peer;
    pthread_mutex_lock(&p->stores->lock);
    p->connected = false;
    p->dial_us = gw_clock_mono_us() + p->dial_wait_us;
    pthread_cond_broadcast(&p->stores->changed);
    pthread_mutex_unlock(&p->stores->lock);
}

static gw_err_t open_buddy(struct gw_stores *s, const struct gw_store_host *host, struct place **out,
                           struct gw_err_ctx *ctx)
{
    struct place *p = calloc(1, sizeof *p);
    if (!p) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    *p = (struct place){.stores = s, .dial_wait_us = GW_STORES_DIAL_MS * GW_US_PER_MS};
    snprintf(p->address, sizeof p->address, "%s", host->address);
    snprintf(p->instance, sizeof p->instance, "%s", host->instance);
    p->seed = seed_of(p->address);
    p->instance_seed = seed_of(p->instance);
    const char *const name = p->address;
    const struct gw_store_peer_config config = {
        .common = {.seal = &s->seal, .stall_us = STALL_US, .log = s->log},
        .peers = &name,
        .peers_len = 1,
        .left = on_left,
        .arg = p};
    gw_err_t err = gw_store_peer_create(&config, &p->store, ctx);
    if (err == GW_OK)
        *out = p;
    else
        free(p);
    return err;
}

static void add_stats(struct gw_stores_stats *sum, struct gw_store *store)
{
    struct gw_store_stats one;
    gw_store_stats(store, &one);
    sum->pages_got += one.pages_got;
    sum->pages_missing += one.pages_missing;
    sum->pages_forged += one.pages_forged;
    sum->put_bytes += one.put.bytes;
    sum->get_bytes += one.get.bytes;
    sum->cpu_us += one.cpu_us;
}

/* It is in the list no more; the lock is not held. */
static void close_place(struct gw_stores *s, struct place *p)
{
    pthread_mutex_lock(&s->lock);
    add_stats(&s->past, p->store);
    pthread_mutex_unlock(&s->lock);
    gw_store_destroy(p->store);
    free(p);
}

static struct place *find_place(const struct gw_stores *s, const char *address, const char *instance)
{
    for (uint32_t i = 0; i < s->places_len; i++)
        if (strcmp(s->places[i]->address, address) == 0 &&
            (!instance || strcmp(s->places[i]->instance, instance) == 0))
            return s->places[i];
    return NULL;
}

/* Takes those out of the list that are not wanted. */
static uint32_t take_out(struct gw_stores *s, struct place **out)
{
    uint32_t kept = 0, taken = 0;
    for (uint32_t i = 0; i < s->places_len; i++) {
        if (s->places[i]->wanted)
            s->places[kept++] = s->places[i];
        else
            out[taken++] = s->places[i];
    }
    s->places_len = kept;
    return taken;
}

void gw_stores_set_peers(struct gw_stores *s, const struct gw_msg_stores *peers)
{
    struct place *gone[GW_WIRE_STORES_MAX];
    if (s->redis) return;
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < s->places_len; i++) s->places[i]->wanted = false;
    for (uint32_t i = 0; i < peers->len; i++) {
        struct place *p = find_place(s, peers->hosts[i].address, peers->hosts[i].instance);
        if (p) p->wanted = true;
    }
    uint32_t gone_len = take_out(s, gone);
    for (uint32_t i = 0; i < peers->len && s->places_len < GW_WIRE_STORES_MAX; i++) {
        struct place *p = NULL;
        if (find_place(s, peers->hosts[i].address, NULL)) continue;
        if (open_buddy(s, &peers->hosts[i], &p, NULL) == GW_OK) s->places[s->places_len++] = p;
    }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    for (uint32_t i = 0; i < gone_len; i++) close_place(s, gone[i]);
}

/* ---- dialing ---- */

/* Who is due first, or when that will be; the lock is held. */
static struct place *next_to_dial(const struct gw_stores *s, int64_t now_us, int64_t *due_us)
{
    struct place *first = NULL;
    for (uint32_t i = 0; i < s->places_len; i++) {
        struct place *p = s->places[i];
        if (!p->connected && (!first || p->dial_us < first->dial_us)) first = p;
    }
    *due_us = first ? first->dial_us : INT64_MAX;
    return first && first->dial_us <= now_us ? first : NULL;
}

static void wait_until(struct gw_stores *s, int64_t due_us)
{
    const struct timespec t = {due_us / GW_US_PER_S, due_us % GW_US_PER_S * 1000};
    if (due_us == INT64_MAX)
        pthread_cond_wait(&s->changed, &s->lock);
    else
        pthread_cond_timedwait(&s->changed, &s->lock, &t);
}

/* Dials whom it was told; the lock is held before and after, not meanwhile. *p may be closed by then. */
static void dial(struct gw_stores *s, const struct place *p)
{
    char address[sizeof p->address];
    int64_t deadline_us = gw_clock_mono_us() + GW_STORES_DIAL_LIMIT_MS * GW_US_PER_MS;
    memcpy(address, p->address, sizeof address);
    pthread_mutex_unlock(&s->lock);
    const struct peer_line_to to = {.address = address, .try_unix = true, .key = &s->key, .for_store = true};
    gw_err_t err = peer_line_open(&s->line, &to, deadline_us, NULL);
    pthread_mutex_lock(&s->lock);
    struct place *now = find_place(s, address, NULL);
    if (err == GW_OK && now && !s->ending) {
        gw_store_peer_attach(now->store, 0, s->line.socket);
        now->connected = true;
        s->line.socket = gw_socket_none();
    }
    gw_socket_close(&s->line.socket);
    if (!now) return;
    int64_t wait_us = err == GW_OK ? GW_STORES_DIAL_MS * GW_US_PER_MS : 2 * now->dial_wait_us;
    int64_t longest_us = GW_STORES_DIAL_MAX_MS * GW_US_PER_MS;
    now->dial_us = gw_clock_mono_us() + now->dial_wait_us;
    now->dial_wait_us = wait_us < longest_us ? wait_us : longest_us;
}

static void *dial_thread(void *arg)
{
    struct gw_stores *s = arg;
    gw_thread_name("gw-store-dial");
    pthread_mutex_lock(&s->lock);
    while (!s->ending) {
        int64_t due_us;
        struct place *p = next_to_dial(s, gw_clock_mono_us(), &due_us);
        if (p)
            dial(s, p);
        else
            wait_until(s, due_us);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static gw_err_t start_dialer(struct gw_stores *s, struct gw_err_ctx *ctx)
{
    TRY(gw_thread_start(&s->dialer, 0, dial_thread, s, ctx));
    s->dialer_started = true;
    return GW_OK;
}

/* ---- life ---- */

static gw_err_t open_redis(struct gw_stores *s, const struct gw_stores_config *c, struct gw_err_ctx *ctx)
{
    struct place *p = calloc(1, sizeof *p);
    if (!p) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    const struct gw_store_redis_config config = {
        .common = {.seal = &s->seal, .stall_us = STALL_US, .log = s->log},
        .servers = c->redis,
        .servers_len = c->redis_len,
        .password_file = c->redis_password_file,
        .ca_file = c->redis_ca_file,
        .tls_name = c->redis_tls_name,
        .insecure_plaintext = c->insecure_plaintext};
    p->stores = s;
    gw_err_t err = gw_store_redis_create(&config, &p->store, ctx);
    if (err == GW_OK)
        s->places[s->places_len++] = p;
    else
        free(p);
    return err;
}

static gw_err_t copy_seal(struct gw_stores *s, const struct gw_page_seal_config *seal, struct gw_err_ctx *ctx)
{
    uint8_t *key = malloc(seal->key_len);
    s->fingerprint = malloc(seal->fingerprint_len);
    s->profile = strdup(seal->profile);
    s->kv_type = strdup(seal->kv_type);
    s->key.bytes = key;
    s->key.len = seal->key_len;
    if (!key || !s->fingerprint || !s->profile || !s->kv_type)
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    memcpy(key, seal->key, seal->key_len);
    memcpy(s->fingerprint, seal->fingerprint, seal->fingerprint_len);
    s->seal = (struct gw_page_seal_config){.key = key,
                                           .key_len = seal->key_len,
                                           .fingerprint = s->fingerprint,
                                           .fingerprint_len = seal->fingerprint_len,
                                           .profile = s->profile,
                                           .kv_type = s->kv_type};
    return GW_OK;
}

static void init_lock(struct gw_stores *s)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
}

gw_err_t gw_stores_create(const struct gw_stores_config *config, struct gw_stores **out,
                          struct gw_err_ctx *ctx)
{
    struct gw_stores *s = calloc(1, sizeof *s);
    if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    init_lock(s);
    s->line = (struct peer_line){gw_socket_none(), &s->lock, &s->ending};
    s->key.tls = config->tls;
    s->redis = config->redis_len > 0;
    s->log = config->log;
    s->traffic = config->traffic;
    s->far.bytes_s = config->far_bytes_s;
    snprintf(s->instance, sizeof s->instance, "%s", config->instance);
    gw_err_t err = copy_seal(s, config->seal, ctx);
    if (err == GW_OK) err = s->redis ? open_redis(s, config, ctx) : start_dialer(s, ctx);
    if (err == GW_OK)
        *out = s;
    else
        gw_stores_destroy(s);
    return err;
}

static void stop(struct gw_stores *s)
{
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    peer_line_shut(&s->line);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->dialer_started) pthread_join(s->dialer, NULL);
}

void gw_stores_destroy(struct gw_stores *s)
{
    if (!s) return;
    stop(s);
    for (uint32_t i = 0; i < s->places_len; i++) close_place(s, s->places[i]);
    uint8_t *key = (uint8_t *)(uintptr_t)s->key.bytes; /* our own copy */
    if (key) gw_bytes_wipe(key, s->key.len);
    free(key);
    free(s->fingerprint);
    free(s->profile);
    free(s->kv_type);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void gw_stores_stats(struct gw_stores *s, struct gw_stores_stats *out)
{
    int64_t now_us = gw_clock_mono_us();
    pthread_mutex_lock(&s->lock);
    *out = s->past;
    for (uint32_t i = 0; i < s->places_len; i++) {
        add_stats(out, s->places[i]->store);
        out->servers++;
        out->servers_up += stores_is_up(s, s->places[i], now_us);
    }
    pthread_mutex_unlock(&s->lock);
}
