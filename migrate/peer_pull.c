#include "migrate/peer_pull.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "migrate/peer_io.h"
#include "migrate/peer_line.h"
#include "migrate/pull_codec.h"

struct gw_puller {
    struct gw_puller_config config; /* key and address point to our copies */
    struct gw_shake_key key;
    char address[GW_FETCH_ADDRESS_BYTES];
    struct peer_line line;
    int64_t kept_until_us; /* the open line is not used after it */
    uint32_t last_request;

    pthread_mutex_t lock;
    bool cancelled;
};

/* ---- life ---- */

gw_err_t gw_puller_create(const struct gw_puller_config *c, struct gw_puller **out, struct gw_err_ctx *ctx)
{
    if (c->key_len == 0 || c->key_len > GW_CLUSTER_KEY_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "the cluster key must have 1 to %d bytes", GW_CLUSTER_KEY_MAX);
    if (strlen(c->address) >= GW_FETCH_ADDRESS_BYTES)
        return gw_fail(ctx, GW_ERR_INPUT, "'%.80s' is too long for an address", c->address);
    struct gw_puller *p = calloc(1, sizeof *p);
    uint8_t *key = malloc(c->key_len);
    if (!p || !key) {
        free(p);
        free(key);
        return gw_fail(ctx, GW_ERR_MEMORY, "no memory for a puller");
    }
    memcpy(key, c->key, c->key_len);
    snprintf(p->address, sizeof p->address, "%s", c->address);
    p->config = *c;
    p->config.address = p->address;
    p->config.key = key;
    p->key = (struct gw_shake_key){key, c->key_len, c->tls};
    p->line = (struct peer_line){gw_socket_none(), &p->lock, &p->cancelled};
    pthread_mutex_init(&p->lock, NULL);
    *out = p;
    return GW_OK;
}

void gw_puller_destroy(struct gw_puller *p)
{
    if (!p) return;
    peer_line_close(&p->line);
    uint8_t *key = (uint8_t *)(uintptr_t)p->key.bytes; /* our own copy */
    gw_bytes_wipe(key, p->key.len);
    free(key);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void gw_puller_cancel(struct gw_puller *p)
{
    pthread_mutex_lock(&p->lock);
    p->cancelled = true;
    peer_line_shut(&p->line);
    pthread_mutex_unlock(&p->lock);
}

/* ---- a pull ---- */

/* Uses the open line, or opens one. */
static gw_err_t get_line(struct gw_puller *p, const struct gw_page_fence *fence, struct gw_err_ctx *ctx)
{
    const struct peer_line_to to = {p->address,
                                    p->config.try_unix,
                                    &p->key,
                                    {fence->term, fence->generation, fence->pipeline, 0, p->config.rank}};
    int64_t now_us = gw_clock_mono_us();
    if (p->line.socket.fd >= 0 && (now_us >= p->kept_until_us || gw_peer_io_idle_broken(&p->line.socket)))
        peer_line_close(&p->line);
    if (p->line.socket.fd >= 0) return GW_OK;
    return peer_line_open(&p->line, &to, now_us + GW_PULL_CONNECT_MS * GW_US_PER_MS, ctx);
}

static gw_err_t send_pull(struct gw_puller *p, const struct gw_pull *pull, int64_t deadline_us,
                          struct gw_err_ctx *ctx)
{
    uint8_t head_bytes[GW_PAGE_HEAD_BYTES];
    struct gw_page_head head = {
        .kind = GW_PAGE_PULL, .request = ++p->last_request, .fence = pull->fence, .model = p->config.model};
    struct gw_buf table;
    gw_buf_init(&table, GW_PULL_TABLE_MAX);
    gw_err_t err = gw_pull_put(&table, pull);
    if (err != GW_OK) {
        gw_fail(ctx, err, "no memory for a pull");
    } else {
        head.table_bytes = (uint32_t)table.len;
        gw_page_head_put(head_bytes, &head, table.data);
        struct iovec iov[] = {{head_bytes, sizeof head_bytes}, {table.data, table.len}};
        err = gw_peer_io_writev(&p->line.socket, iov, 2, deadline_us, ctx);
    }
    gw_buf_fini(&table);
    return err;
}

static gw_err_t read_pulled(struct gw_puller *p, const struct gw_pull *pull, enum gw_page_status *status,
                            uint8_t *from, int64_t deadline_us, struct gw_err_ctx *ctx)
{
    uint8_t head_bytes[GW_PAGE_HEAD_BYTES], table[GW_PULLED_TABLE_MAX];
    struct gw_page_head head;
    TRY(gw_peer_io_read(&p->line.socket, head_bytes, sizeof head_bytes, deadline_us, ctx));
    TRY(gw_page_head_get(head_bytes, &head, ctx));
    if (head.kind != GW_PAGE_PULLED || head.request != p->last_request ||
        !gw_page_fence_equal(&head.fence, &pull->fence))
        return gw_fail(ctx, GW_ERR_PROTO, "pages: not the answer to this pull");
    TRY(gw_peer_io_read(&p->line.socket, table, head.table_bytes, deadline_us, ctx));
    TRY(gw_page_check(head_bytes, &head, table, ctx));
    TRY(gw_pulled_get(table, head.table_bytes, status, from, pull->names_len, ctx));
    if (*status == GW_PAGE_SERVED && !gw_page_model_equal(&head.model, &p->config.model))
        return gw_fail(ctx, GW_ERR_PROTO, "pages: an answer of another model");
    return GW_OK;
}

static gw_err_t exchange(struct gw_puller *p, const struct gw_pull *pull, enum gw_page_status *status,
                         uint8_t *from, struct gw_err_ctx *ctx)
{
    int64_t deadline_us = gw_clock_mono_us() + ((int64_t)pull->budget_ms + GW_PULL_GRACE_MS) * GW_US_PER_MS;
    TRY(get_line(p, &pull->fence, ctx));
    TRY(send_pull(p, pull, deadline_us, ctx));
    TRY(read_pulled(p, pull, status, from, deadline_us, ctx));
    p->kept_until_us = gw_clock_mono_us() + GW_PULL_KEEP_S * GW_US_PER_S;
    return GW_OK;
}

/* What the rank says that did nothing. */
static gw_err_t refused(enum gw_page_status status, struct gw_err_ctx *ctx)
{
    const char *why = status == GW_PAGE_STALE     ? "takes this generation for over"
                      : status == GW_PAGE_FOREIGN ? "has another model"
                                                  : "takes no pulls";
    return gw_fail(ctx, GW_ERR_INPUT, "the rank %s", why);
}

gw_err_t gw_puller_run(struct gw_puller *p, const struct gw_pull *pull, uint8_t *from, struct gw_err_ctx *ctx)
{
    enum gw_page_status status = GW_PAGE_SERVED;
    TRY(gw_pull_check(pull, ctx));
    memset(from, GW_PULL_LOST, pull->names_len);
    gw_err_t err = exchange(p, pull, &status, from, ctx);
    if (err != GW_OK) peer_line_close(&p->line);
    if (err == GW_OK && status != GW_PAGE_SERVED) err = refused(status, ctx);
    if (err != GW_OK) {
        memset(from, GW_PULL_LOST, pull->names_len);
        gw_logf(p->config.log, GW_LOG_DEBUG, "pages: a pull at %s failed (%s)", p->address, gw_err_name(err));
    }
    return err;
}
