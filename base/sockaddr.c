#include "base/sockaddr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

gw_err_t gw_sockaddr_parse(const char *host, uint16_t port, struct sockaddr_storage *out, socklen_t *len,
                           struct gw_err_ctx *ctx)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (strcmp(host, "localhost") == 0) host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(out, &v4, sizeof v4);
        *len = sizeof v4;
        return GW_OK;
    }
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        memcpy(out, &v6, sizeof v6);
        *len = sizeof v6;
        return GW_OK;
    }
    return gw_fail(ctx, GW_ERR_INPUT, "'%.100s' is not a numeric address (e.g. 127.0.0.1)", host);
}

gw_err_t gw_sockaddr_split(const char *text, char *host, size_t host_size, uint16_t *port,
                           struct gw_err_ctx *ctx)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    unsigned long value = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!colon || colon[1] < '0' || colon[1] > '9' || *end || value > 65535)
        return gw_fail(ctx, GW_ERR_INPUT, "'%.100s': expected HOST:PORT", text);
    const char *start = text, *stop = colon;
    if (*start == '[' && stop > start && stop[-1] == ']') {
        start++;
        stop--;
    }
    size_t len = (size_t)(stop - start);
    if (len == 0 || len >= host_size) return gw_fail(ctx, GW_ERR_INPUT, "'%.100s': expected HOST:PORT", text);
    memcpy(host, start, len);
    host[len] = '\0';
    *port = (uint16_t)value;
    return GW_OK;
}

bool gw_sockaddr_is_loopback(const struct sockaddr_storage *addr)
{
    if (addr->ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, addr, sizeof v4);
        return (ntohl(v4.sin_addr.s_addr) >> 24) == 127;
    }
    struct sockaddr_in6 v6;
    memcpy(&v6, addr, sizeof v6);
    if (addr->ss_family != AF_INET6) return false;
    /* A listener on :: sees peers of IPv4 as ::ffff:a.b.c.d. */
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) return v6.sin6_addr.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

static bool same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    struct sockaddr_in v4[2];
    struct sockaddr_in6 v6[2];
    if (a->ss_family == AF_INET && b->ss_family == AF_INET) {
        memcpy(&v4[0], a, sizeof v4[0]);
        memcpy(&v4[1], b, sizeof v4[1]);
        return v4[0].sin_addr.s_addr == v4[1].sin_addr.s_addr;
    }
    if (a->ss_family != AF_INET6 || b->ss_family != AF_INET6) return false;
    memcpy(&v6[0], a, sizeof v6[0]);
    memcpy(&v6[1], b, sizeof v6[1]);
    return IN6_ARE_ADDR_EQUAL(&v6[0].sin6_addr, &v6[1].sin6_addr);
}

bool gw_sockaddr_stays_here(int fd)
{
    struct sockaddr_storage own = {0}, peer = {0};
    socklen_t own_len = sizeof own, peer_len = sizeof peer;
    if (getsockname(fd, (struct sockaddr *)&own, &own_len) != 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &peer_len) != 0)
        return false;
    return gw_sockaddr_is_loopback(&peer) || same_host(&own, &peer);
}

uint16_t gw_sockaddr_local_port(int fd)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof addr;
    if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0) return 0;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    memcpy(&v4, &addr, sizeof v4);
    memcpy(&v6, &addr, sizeof v6);
    if (addr.ss_family == AF_INET) return ntohs(v4.sin_port);
    return addr.ss_family == AF_INET6 ? ntohs(v6.sin6_port) : 0;
}
