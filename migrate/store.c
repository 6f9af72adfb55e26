#include "migrate/store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/thread.h"

#define CONNECT_US (2 * GW_US_PER_S)
#define STALL_US   (5 * GW_US_PER_S)

void store_wake(struct gw_store *s)
{
    uint64_t one = 1;
    ssize_t ignored = write(s->wake_fd, &one, sizeof one);
    (void)ignored;
}

/* ---- calls ---- */

void store_call_free(struct store_call *c)
{
    if (!c) return;
    free(c->pages);
    free(c->got);
    free(c->ops);
    free(c);
}

/* A call with room for its lists, which are zeros. */
static struct store_call *call_new(struct gw_store *s, enum store_verb verb, uint32_t pages_len,
                                   uint32_t got_len, uint32_t ops_len, const struct gw_store_then *then)
{
    struct store_call *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    *c = (struct store_call){.store = s,
                             .verb = verb,
                             .then = *then,
                             .pages = calloc(pages_len, sizeof *c->pages),
                             .pages_len = pages_len,
                             .got = calloc(got_len + 1, sizeof *c->got), /* + 1: a put has none */
                             .got_len = got_len,
                             .ops = calloc(ops_len, sizeof *c->ops),
                             .ops_len = ops_len,
                             .ops_left = ops_len};
    if (c->pages && c->got && c->ops) return c;
    store_call_free(c);
    return NULL;
}

struct gw_store_verb_stats *store_verb_stats(struct gw_store *s, enum store_verb verb)
{
    if (verb == STORE_PUT) return &s->stats.put;
    return verb == STORE_GET ? &s->stats.get : &s->stats.has;
}

/* Hands the call to the I/O thread, or frees it. */
static gw_err_t submit(struct gw_store *s, struct store_call *c, const struct gw_block_name *names)
{
    struct gw_store_stats *stats = &s->stats;
    c->begun_us = gw_clock_mono_us();
    for (uint32_t i = 0; i < c->ops_len; i++)
        c->ops[i] = (struct store_op){.call = c, .index = i, .name = names[i]};
    pthread_mutex_lock(&s->lock);
    bool room =
        stats->waiting_ops + c->ops_len <= s->queue_ops && stats->waiting_bytes + c->bytes <= s->queue_bytes;
    if (room) {
        store_verb_stats(s, c->verb)->calls++;
        stats->waiting_ops += c->ops_len;
        stats->waiting_bytes += c->bytes;
        TAILQ_INSERT_TAIL(&s->inbox, c, all);
    } else {
        store_verb_stats(s, c->verb)->dropped++;
    }
    pthread_mutex_unlock(&s->lock);
    if (room)
        store_wake(s);
    else
        store_call_free(c);
    return room ? GW_OK : GW_ERR_LIMIT;
}

static bool deadline_fits(const struct gw_store_then *then)
{
    return then->done && then->deadline_us <= gw_clock_mono_us() + GW_STORE_DEADLINE_MAX_US;
}

/* Bytes of the pages as they travel; 0: not a list that a store takes. */
static size_t pages_bytes(const struct gw_store *s, const struct gw_store_page *pages, uint32_t len)
{
    size_t bytes = 0;
    if (len == 0 || len > GW_STORE_PAGES_MAX) return 0;
    for (uint32_t i = 0; i < len; i++) {
        if (pages[i].len == 0 || pages[i].len > GW_PAGE_BYTES_MAX) return 0;
        bytes += pages[i].len;
    }
    return bytes <= GW_STORE_CALL_BYTES_MAX ? bytes + len * (store_sealed_bytes(s, 1) - 1) : 0;
}

static gw_err_t submit_pages(struct gw_store *s, enum store_verb verb, const struct gw_block_name *name,
                             const struct gw_store_page *pages, uint32_t pages_len,
                             const struct gw_store_then *then)
{
    size_t bytes = pages_bytes(s, pages, pages_len);
    if (bytes == 0 || !deadline_fits(then)) return GW_ERR_INPUT;
    struct store_call *c = call_new(s, verb, pages_len, verb == STORE_GET ? pages_len : 0, 1, then);
    if (!c) return GW_ERR_MEMORY;
    memcpy(c->pages, pages, pages_len * sizeof *pages);
    c->bytes = bytes;
    return submit(s, c, name);
}

gw_err_t gw_store_put(struct gw_store *s, const struct gw_block_name *name, const struct gw_store_page *pages,
                      uint32_t pages_len, const struct gw_store_then *then)
{
    return submit_pages(s, STORE_PUT, name, pages, pages_len, then);
}

gw_err_t gw_store_get(struct gw_store *s, const struct gw_block_name *name, const struct gw_store_page *pages,
                      uint32_t pages_len, const struct gw_store_then *then)
{
    return submit_pages(s, STORE_GET, name, pages, pages_len, then);
}

gw_err_t gw_store_has(struct gw_store *s, const struct gw_block_name *names, uint32_t names_len,
                      struct gw_page_id id, const struct gw_store_then *then)
{
    if (names_len == 0 || names_len > GW_STORE_NAMES_MAX || !deadline_fits(then)) return GW_ERR_INPUT;
    struct store_call *c = call_new(s, STORE_HAS, 1, names_len, names_len, then);
    if (!c) return GW_ERR_MEMORY;
    c->pages[0].id = id;
    return submit(s, c, names);
}

static uint64_t cpu_us_of(const struct gw_store *s)
{
    clockid_t clock;
    struct timespec t;
    if (!s->thread_started || pthread_getcpuclockid(s->thread, &clock) != 0 || clock_gettime(clock, &t) != 0)
        return 0;
    return (uint64_t)t.tv_sec * GW_US_PER_S + (uint64_t)t.tv_nsec / 1000;
}

void gw_store_stats(struct gw_store *s, struct gw_store_stats *out)
{
    pthread_mutex_lock(&s->lock);
    *out = s->stats;
    pthread_mutex_unlock(&s->lock);
    out->cpu_us = cpu_us_of(s);
}

/* ---- making ---- */

static gw_err_t set_up(struct gw_store *s, struct gw_err_ctx *ctx)
{
    s->loop = event_base_new();
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->chunk = malloc(STORE_CHUNK_BYTES);
    if (!s->loop || s->wake_fd < 0 || !s->chunk) return gw_fail(ctx, GW_ERR_MEMORY, "store: out of memory");
    s->wake = event_new(s->loop, s->wake_fd, EV_READ | EV_PERSIST, store_on_wake, s);
    s->timer = evtimer_new(s->loop, store_on_timer, s);
    if (!s->wake || !s->timer || event_add(s->wake, NULL) != 0)
        return gw_fail(ctx, GW_ERR_MEMORY, "store: out of memory");
    return GW_OK;
}

gw_err_t store_create(const struct gw_store_config *config, struct gw_store **out, struct gw_err_ctx *ctx)
{
    struct gw_store *s = calloc(1, sizeof *s);
    if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "store: out of memory");
    s->log = config->log;
    s->queue_ops = config->queue_ops ? config->queue_ops : GW_STORE_QUEUE_OPS;
    s->queue_bytes = config->queue_bytes ? config->queue_bytes : GW_STORE_QUEUE_BYTES;
    s->connect_us = config->connect_us ? config->connect_us : CONNECT_US;
    s->stall_us = config->stall_us ? config->stall_us : STALL_US;
    s->wake_fd = -1;
    s->next_deadline_us = INT64_MAX;
    for (int i = 0; i < STORE_SERVERS_MAX; i++) s->attached[i] = gw_socket_none();
    TAILQ_INIT(&s->calls);
    TAILQ_INIT(&s->inbox);
    pthread_mutex_init(&s->lock, NULL);
    gw_err_t err = config->seal ? gw_page_sealer_create(config->seal, &s->sealer, ctx) : GW_OK;
    if (err == GW_OK) err = set_up(s, ctx);
    if (err == GW_OK)
        *out = s;
    else
        gw_store_destroy(s);
    return err;
}

gw_err_t store_add_server(struct gw_store *s, const struct store_protocol *protocol, void *state,
                          const char *address, struct store_server **out, struct gw_err_ctx *ctx)
{
    if (s->servers_len == STORE_SERVERS_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "store: more than %d servers", STORE_SERVERS_MAX);
    struct store_server *server = calloc(1, sizeof *server);
    if (!server) return gw_fail(ctx, GW_ERR_MEMORY, "store: out of memory");
    *server = (struct store_server){.store = s,
                                    .protocol = protocol,
                                    .protocol_state = state,
                                    .seed = gw_hash64(address, strlen(address), 0),
                                    .socket = gw_socket_none(),
                                    .backoff_us = STORE_BACKOFF_MIN_US};
    snprintf(server->address, sizeof server->address, "%s", address);
    TAILQ_INIT(&server->urgent);
    TAILQ_INIT(&server->background);
    s->servers[s->servers_len++] = server;
    s->stats.servers = s->servers_len;
    *out = server;
    return GW_OK;
}

gw_err_t store_start(struct gw_store *s, struct gw_err_ctx *ctx)
{
    TRY(gw_thread_start(&s->thread, 0, store_io, s, ctx));
    s->thread_started = true;
    return GW_OK;
}

void gw_store_destroy(struct gw_store *s)
{
    if (!s) return;
    if (s->thread_started) {
        pthread_mutex_lock(&s->lock);
        s->ending = true;
        pthread_mutex_unlock(&s->lock);
        store_wake(s);
        pthread_join(s->thread, NULL);
    }
    for (uint32_t i = 0; i < s->servers_len; i++) {
        gw_socket_close(&s->attached[i]);
        store_server_free(s->servers[i]);
    }
    if (s->wake) event_free(s->wake);
    if (s->timer) event_free(s->timer);
    if (s->loop) event_base_free(s->loop);
    if (s->wake_fd >= 0) close(s->wake_fd);
    gw_page_sealer_destroy(s->sealer);
    gw_tls_destroy(s->tls);
    pthread_mutex_destroy(&s->lock);
    free(s->chunk);
    free(s);
}
