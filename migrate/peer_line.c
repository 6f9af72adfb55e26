#include "migrate/peer_line.h"

#include "base/sockaddr.h"
#include "migrate/peer_io.h"

#define HOST_BYTES 64

/* From now on a cut reaches the socket. False: it has come already. */
static bool show(struct peer_line *line, struct gw_socket socket)
{
    pthread_mutex_lock(line->lock);
    line->socket = socket;
    bool goes_on = !*line->cut;
    pthread_mutex_unlock(line->lock);
    return goes_on;
}

void peer_line_close(struct peer_line *line)
{
    pthread_mutex_lock(line->lock);
    gw_socket_close(&line->socket);
    pthread_mutex_unlock(line->lock);
}

void peer_line_shut(struct peer_line *line)
{
    if (line->socket.fd >= 0) shutdown(line->socket.fd, SHUT_RDWR);
}

static gw_err_t shake_hands(struct gw_shake *shake, const struct gw_shake_key *key, int64_t deadline_us,
                            struct gw_err_ctx *ctx)
{
    for (;;) {
        TRY(gw_peer_io_wait(&shake->socket, gw_shake_events(shake), deadline_us, ctx));
        enum gw_shake_result result = gw_shake_step(shake, key);
        if (result == GW_SHAKE_PROVEN) return GW_OK;
        if (result == GW_SHAKE_FAILED) return gw_fail(ctx, GW_ERR_IO, "%s", shake->why);
    }
}

static gw_err_t dial(struct peer_line *line, const struct peer_line_to *to,
                     const struct sockaddr_storage *addr, socklen_t len, int64_t deadline_us,
                     struct gw_err_ctx *ctx)
{
    struct gw_shake shake;
    if (!gw_shake_dial(&shake, addr, len, to->for_store ? GW_SHAKE_STORE : GW_SHAKE_PAGES, &to->pair, to->key,
                       deadline_us))
        return gw_fail(ctx, GW_ERR_IO, "%s", shake.why);
    gw_err_t err = show(line, shake.socket) ? shake_hands(&shake, to->key, deadline_us, ctx)
                                            : gw_fail(ctx, GW_ERR_IO, "cancelled");
    (void)show(line, shake.socket); /* with its TLS session: cuts look at the descriptor alone */
    if (err != GW_OK) peer_line_close(line);
    return err;
}

gw_err_t peer_line_open(struct peer_line *line, const struct peer_line_to *to, int64_t deadline_us,
                        struct gw_err_ctx *ctx)
{
    struct sockaddr_storage addr;
    socklen_t len;
    char host[HOST_BYTES];
    uint16_t port;
    /* Without a unix socket it is on another host, or offers none. */
    if (to->try_unix && gw_peer_io_unix_address(to->address, &addr, &len, NULL) == GW_OK &&
        dial(line, to, &addr, len, deadline_us, NULL) == GW_OK)
        return GW_OK;
    TRY(gw_sockaddr_split(to->address, host, sizeof host, &port, ctx));
    TRY(gw_sockaddr_parse(host, port, &addr, &len, ctx));
    return dial(line, to, &addr, len, deadline_us, ctx);
}
