#include "migrate/store_peer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/store_internal.h"
#include "migrate/store_peer_wire.h"

struct peer {
    struct store_server *server;
    struct peer_reader reader;
    uint8_t *page; /* as it travels */
    size_t page_bytes;
    void (*left)(void *arg, uint32_t peer);
    void *arg;
    uint32_t index;
};

/* ---- commands ---- */

/* The socket is authenticated: there is nothing to say first. */
static gw_err_t peer_greet(void *state, struct evbuffer *out)
{
    (void)out;
    struct peer *p = state;
    const struct peer_listener listener = p->reader.listener;
    peer_reader_init(&p->reader, &listener);
    store_ready(p->server);
    return GW_OK;
}

/* Seals straight into the buffer that is sent. */
static gw_err_t put_page(const struct store_op *op, uint32_t i, struct evbuffer *out)
{
    struct evbuffer_iovec space;
    size_t len = store_sealed_bytes(op->call->store, op->call->pages[i].len);
    if (evbuffer_reserve_space(out, (ev_ssize_t)len, &space, 1) != 1) return GW_ERR_MEMORY;
    TRY(store_seal(op, i, space.iov_base));
    space.iov_len = len;
    return evbuffer_commit_space(out, &space, 1) == 0 ? GW_OK : GW_ERR_MEMORY;
}

static gw_err_t put_frame(const struct store_op *op, struct evbuffer *out)
{
    static const enum peer_type types[] = {
        [STORE_PUT] = PEER_PUT, [STORE_GET] = PEER_GET, [STORE_HAS] = PEER_HAS};
    const struct store_call *c = op->call;
    struct peer_item items[GW_STORE_PAGES_MAX];
    struct peer_frame frame = {
        .type = types[c->verb], .name = op->name, .items = items, .items_len = c->pages_len};
    bool put = c->verb == STORE_PUT;
    for (uint32_t i = 0; i < c->pages_len; i++) {
        uint32_t len = put ? (uint32_t)store_sealed_bytes(c->store, c->pages[i].len) : 0;
        items[i] = (struct peer_item){c->pages[i].id, len};
        frame.bytes += len;
    }
    TRY(peer_put_head(out, &frame));
    for (uint32_t i = 0; put && i < c->pages_len; i++) TRY(put_page(op, i, out));
    return GW_OK;
}

static gw_err_t peer_encode(void *state, const struct store_op *op, struct evbuffer *out)
{
    (void)state;
    struct evbuffer *whole = evbuffer_new();
    if (!whole) return GW_ERR_MEMORY;
    gw_err_t err = put_frame(op, whole);
    if (err == GW_OK && evbuffer_add_buffer(out, whole) != 0) err = GW_ERR_MEMORY;
    evbuffer_free(whole);
    return err;
}

/* ---- answers ---- */

static gw_err_t on_frame(void *arg, const struct peer_frame *f)
{
    const struct store_slot *slot = store_oldest(((struct peer *)arg)->server);
    bool pages = slot && slot->verb == STORE_GET;
    bool fits = slot && f->type == PEER_ANSWER && f->items_len == slot->pages_len && (pages || f->bytes == 0);
    return fits ? GW_OK : GW_ERR_PROTO;
}

static uint8_t *on_page(void *arg, uint32_t i)
{
    struct peer *p = arg;
    size_t bytes = p->reader.items[i].len;
    if (bytes > p->page_bytes) {
        uint8_t *page = realloc(p->page, bytes);
        if (!page) return NULL;
        p->page = page;
        p->page_bytes = bytes;
    }
    return p->page;
}

static void on_page_over(void *arg, uint32_t i)
{
    struct peer *p = arg;
    store_page(p->server, i, p->page, p->reader.items[i].len);
}

static gw_err_t on_frame_over(void *arg)
{
    struct peer *p = arg;
    const struct peer_frame *f = &p->reader.frame;
    const struct store_slot *slot = store_oldest(p->server);
    for (uint32_t i = 0; slot->verb == STORE_GET && i < f->items_len; i++)
        if (f->bytes == 0 || f->items[i].len == 0) store_page_missing(p->server);
    store_answer(p->server, f->refused ? GW_STORE_REFUSED : GW_STORE_OK, f->items[0].len > 0);
    return GW_OK;
}

static gw_err_t peer_feed(void *state, const void *bytes, size_t len, struct gw_err_ctx *ctx)
{
    gw_err_t err = peer_reader_feed(&((struct peer *)state)->reader, bytes, len, ctx);
    return err == GW_OK ? GW_OK : gw_fail(ctx, err, "it answers what was not asked");
}

/* ---- making ---- */

static void peer_destroy(void *state)
{
    struct peer *p = state;
    free(p->page);
    free(p);
}

static const struct store_protocol peer_protocol = {peer_greet, peer_encode, peer_feed, peer_destroy};

static void on_left(void *arg)
{
    struct peer *p = arg;
    if (p->left) p->left(p->arg, p->index);
}

static gw_err_t add_peer(struct gw_store *s, const struct gw_store_peer_config *c, uint32_t index,
                         struct gw_err_ctx *ctx)
{
    struct peer *p = calloc(1, sizeof *p);
    if (!p) return gw_fail(ctx, GW_ERR_MEMORY, "store: out of memory");
    const struct peer_listener listener = {p, on_frame, on_page, on_page_over, on_frame_over};
    *p = (struct peer){.left = c->left, .arg = c->arg, .index = index};
    peer_reader_init(&p->reader, &listener);
    gw_err_t err = store_add_server(s, &peer_protocol, p, c->peers[index], &p->server, ctx);
    if (err != GW_OK) {
        peer_destroy(p);
        return err;
    }
    p->server->tried = true; /* nobody is being dialed */
    p->server->left = on_left;
    p->server->left_arg = p;
    return GW_OK;
}

gw_err_t gw_store_peer_create(const struct gw_store_peer_config *c, struct gw_store **out,
                              struct gw_err_ctx *ctx)
{
    struct gw_store *s = NULL;
    if (c->peers_len == 0) return gw_fail(ctx, GW_ERR_INPUT, "store: no peer is named");
    TRY(store_create(&c->common, &s, ctx));
    gw_err_t err = GW_OK;
    for (uint32_t i = 0; i < c->peers_len && err == GW_OK; i++) err = add_peer(s, c, i, ctx);
    if (err == GW_OK) err = store_start(s, ctx);
    if (err == GW_OK)
        *out = s;
    else
        gw_store_destroy(s);
    return err;
}

void gw_store_peer_attach(struct gw_store *s, uint32_t peer, struct gw_socket socket)
{
    assert(peer < s->servers_len);
    pthread_mutex_lock(&s->lock);
    struct gw_socket older = s->attached[peer];
    s->attached[peer] = socket;
    pthread_mutex_unlock(&s->lock);
    gw_socket_close(&older);
    store_wake(s);
}
