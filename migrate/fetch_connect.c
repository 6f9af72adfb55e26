/* A fetch's connection to a source: dialed, and proven to hold the cluster key. */
#include "migrate/peer_fetch_internal.h"

#include <unistd.h>

#include "base/sockaddr.h"
#include "migrate/peer_io.h"

/* From now on a cancel reaches the socket. */
static bool show(struct fetch_stream *s, int fd)
{
    pthread_mutex_lock(&s->fetch->lock);
    s->fd = fd;
    bool goes_on = !s->fetch->cancelled;
    pthread_mutex_unlock(&s->fetch->lock);
    return goes_on;
}

void fetch_stream_close(struct fetch_stream *s)
{
    pthread_mutex_lock(&s->fetch->lock);
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    pthread_mutex_unlock(&s->fetch->lock);
}

static gw_err_t shake_hands(struct fetch_stream *s, struct gw_shake *shake, int64_t deadline_us)
{
    const struct gw_peer_fetch *f = s->fetch;
    for (;;) {
        TRY(gw_peer_io_wait(shake->fd, gw_shake_events(shake), deadline_us, &s->ctx));
        enum gw_shake_result result = gw_shake_step(shake, &f->key);
        if (result == GW_SHAKE_PROVEN) return GW_OK;
        if (result == GW_SHAKE_FAILED) return gw_fail(&s->ctx, GW_ERR_IO, "%s", shake->why);
    }
}

static gw_err_t dial(struct fetch_stream *s, const struct sockaddr_storage *addr, socklen_t len)
{
    const struct gw_peer_fetch_config *c = &s->fetch->config;
    const struct gw_shake_pair pair = {c->fence.term, c->fence.generation, c->fence.pipeline, c->rank,
                                       c->sources[s->source].rank};
    struct gw_shake shake;
    int64_t deadline_us = gw_clock_mono_us() + c->stall_us;
    if (s->fetch->deadline_us < deadline_us) deadline_us = s->fetch->deadline_us;
    if (!gw_shake_dial(&shake, addr, len, GW_SHAKE_PAGES, &pair, deadline_us))
        return gw_fail(&s->ctx, GW_ERR_IO, "%s", shake.why);
    gw_err_t err = show(s, shake.fd) ? shake_hands(s, &shake, deadline_us) : GW_ERR_IO;
    if (err != GW_OK) fetch_stream_close(s);
    return err;
}

gw_err_t fetch_stream_connect(struct fetch_stream *s)
{
    const struct gw_peer_fetch_config *c = &s->fetch->config;
    const char *address = c->sources[s->source].address;
    struct sockaddr_storage addr;
    socklen_t len;
    char host[GW_FETCH_ADDRESS_BYTES];
    uint16_t port;
    if (c->try_unix && gw_peer_io_unix_address(address, &addr, &len, &s->ctx) == GW_OK) {
        if (dial(s, &addr, len) == GW_OK) return GW_OK;
        gw_err_reset(&s->ctx); /* it is on another host, or offers none */
    }
    TRY(gw_sockaddr_split(address, host, sizeof host, &port, &s->ctx));
    TRY(gw_sockaddr_parse(host, port, &addr, &len, &s->ctx));
    return dial(s, &addr, len);
}
