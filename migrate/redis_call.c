#include "migrate/redis_call.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/secret.h"
#include "base/sockaddr.h"
#include "base/tls_verify.h"
#include "migrate/redis_sentinel.h"

#define SCHEME        "redis://"
#define SCHEME_TLS    "rediss://"
#define BY_SENTINEL   "+sentinel" /* behind the scheme's name */
#define TIMEOUT_US    (2 * GW_US_PER_S)
#define READ_BYTES    65536
#define DATABASES_MAX 65535
#define HOST_BYTES    256 /* a name has 253 bytes at most */
#define ADDRESSES_MAX 8   /* of one name that are tried */

#define SENTINELS_BYTES (GW_SENTINELS_MAX * (HOST_BYTES + 8)) /* their list */

struct address {
    struct sockaddr_storage at;
    socklen_t len;
};

struct gw_redis {
    char name[HOST_BYTES]; /* resolved at each connecting; "": the address is a number, or a path */
    uint16_t port;
    struct address addresses[ADDRESSES_MAX];
    size_t addresses_len;
    char database[12]; /* "0": that of a new connection */
    char *password;
    size_t password_len;
    int64_t timeout_us, deadline_us;
    struct gw_tls *tls;             /* NULL: plaintext */
    bool plaintext_is_fine;         /* off loopback, too */
    struct gw_sentinels *sentinels; /* NULL: the address is what it is */
    struct gw_socket socket;        /* none: not connected */
    struct redis_replies *replies;
    struct gw_redis_reply *reply; /* of the call under way */
    bool answered;
    uint8_t bytes[READ_BYTES];
};

/* ---- sockets ---- */

static gw_err_t fail_io(struct gw_err_ctx *ctx, const char *what)
{
    return gw_fail(ctx, GW_ERR_IO, "Redis: %s: %s", what, strerror(errno));
}

static void disconnect(struct gw_redis *r)
{
    gw_socket_close(&r->socket);
}

static gw_err_t wait_for(struct gw_redis *r, short events, struct gw_err_ctx *ctx)
{
    struct pollfd p = {.fd = r->socket.fd, .events = events};
    for (;;) {
        int64_t left_us = r->deadline_us - gw_clock_mono_us();
        if (left_us <= 0) return gw_fail(ctx, GW_ERR_IO, "Redis: no answer in time");
        int n = poll(&p, 1, (int)(left_us / GW_US_PER_MS) + 1);
        if (n > 0) return GW_OK;
        if (n < 0 && errno != EINTR) return fail_io(ctx, "poll");
    }
}

static gw_err_t send_all(struct gw_redis *r, const char *bytes, size_t len, struct gw_err_ctx *ctx)
{
    while (len > 0) {
        struct iovec one = {(void *)(uintptr_t)bytes, len}; /* only read */
        size_t n;
        gw_err_t err = gw_socket_writev(&r->socket, &one, 1, 0, &n, ctx);
        if (err != GW_OK) return gw_fail_prefix(ctx, err, "Redis: send");
        if (n == 0) TRY(wait_for(r, POLLOUT, ctx));
        bytes += n;
        len -= n;
    }
    return GW_OK;
}

static gw_err_t receive_answer(struct gw_redis *r, struct gw_err_ctx *ctx)
{
    r->answered = false;
    while (!r->answered) {
        size_t n;
        gw_err_t err = gw_socket_read(&r->socket, r->bytes, sizeof r->bytes, &n, ctx);
        if (err != GW_OK) return gw_fail_prefix(ctx, err, "Redis");
        if (n > 0)
            TRY(redis_replies_feed(r->replies, r->bytes, n, ctx));
        else
            TRY(wait_for(r, POLLIN, ctx));
    }
    return GW_OK;
}

/* ---- calls on a connection ---- */

static gw_err_t on_element(void *arg, uint32_t index, const char *bytes, size_t len)
{
    struct gw_redis *r = arg;
    if (len > GW_REDIS_VALUE_MAX) return GW_ERR_PROTO;
    return r->reply->element ? r->reply->element(r->reply->arg, index, bytes, len) : GW_OK;
}

static gw_err_t on_answer(void *arg, const struct redis_answer *answer, struct gw_err_ctx *ctx)
{
    struct gw_redis *r = arg;
    if (r->answered) return gw_fail(ctx, GW_ERR_PROTO, "Redis: an answer that nobody asked for");
    r->reply->answer = *answer;
    r->answered = true;
    return GW_OK;
}

static gw_err_t exchange(struct gw_redis *r, const struct gw_redis_arg *args, int args_len,
                         struct gw_redis_reply *reply, struct gw_err_ctx *ctx)
{
    const char *words[GW_REDIS_ARGS_MAX];
    size_t lens[GW_REDIS_ARGS_MAX];
    char *text = NULL;
    if (args_len < 1 || args_len > GW_REDIS_ARGS_MAX)
        return gw_fail(ctx, GW_ERR_INTERNAL, "Redis: a call of %d words", args_len);
    for (int i = 0; i < args_len; i++) {
        words[i] = args[i].bytes;
        lens[i] = args[i].len;
    }
    int len = redisFormatCommandArgv(&text, args_len, words, lens);
    if (len < 0) return gw_fail(ctx, GW_ERR_MEMORY, "Redis: out of memory");
    r->reply = reply;
    gw_err_t err = send_all(r, text, (size_t)len, ctx);
    gw_bytes_wipe(text, (size_t)len); /* it may hold the password */
    redisFreeCommand(text);
    if (err == GW_OK) err = receive_answer(r, ctx);
    r->reply = NULL;
    if (err == GW_OK && reply->answer.type == REDIS_ANSWER_ERROR)
        return gw_fail(ctx, GW_ERR_IO, "Redis says: %s", reply->answer.error);
    return err;
}

static gw_err_t greet(struct gw_redis *r, const char *verb, const void *what, size_t len,
                      struct gw_err_ctx *ctx)
{
    struct gw_redis_reply reply = {0};
    const struct gw_redis_arg args[] = {gw_redis_word(verb), {what, len}};
    return exchange(r, args, 2, &reply, ctx);
}

/* ---- addresses ---- */

/* A number, or a name: letters, digits, '-', '.', as RFC 1123 has them. */
static gw_err_t parse_endpoint(struct gw_redis *r, const char *endpoint, struct gw_err_ctx *ctx)
{
    char host[HOST_BYTES];
    struct address *a = &r->addresses[0];
    TRY(gw_sockaddr_split(endpoint, host, sizeof host, &r->port, ctx));
    r->name[0] = '\0';
    r->addresses_len = 1;
    if (gw_sockaddr_parse(host, r->port, &a->at, &a->len, NULL) == GW_OK) return GW_OK;
    for (const char *c = host; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '-' && *c != '.')
            return gw_fail(ctx, GW_ERR_INPUT, "'%.100s' is neither an address nor a name", host);
    r->addresses_len = 0;
    snprintf(r->name, sizeof r->name, "%s", host);
    return GW_OK;
}

static bool is_loopback(const struct gw_redis *r)
{
    return !r->name[0] && gw_sockaddr_is_loopback(&r->addresses[0].at);
}

static gw_err_t check_plaintext(const struct gw_redis *r, const char *where, struct gw_err_ctx *ctx)
{
    if (r->tls || r->plaintext_is_fine || is_loopback(r)) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT,
                   "'%s' is not loopback: say " SCHEME_TLS
                   ", or --insecure-plaintext if the network is yours (what is "
                   "written is sealed, the password is not)",
                   where);
}

/* Whom the sentinels name is as hostile as an address that somebody typed. */
static gw_err_t find_master(struct gw_redis *r, struct gw_err_ctx *ctx)
{
    char master[GW_SENTINEL_MASTER_BYTES];
    if (!r->sentinels) return GW_OK;
    TRY(gw_sentinels_ask(r->sentinels, master, ctx));
    TRY(parse_endpoint(r, master, ctx));
    return check_plaintext(r, master, ctx);
}

/* ---- connecting ---- */

static gw_err_t finish_connect(struct gw_redis *r, struct gw_err_ctx *ctx)
{
    int error = 0, one = 1;
    socklen_t len = sizeof error;
    TRY(wait_for(r, POLLOUT, ctx));
    if (getsockopt(r->socket.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) return fail_io(ctx, "connect");
    errno = error;
    if (error != 0) return fail_io(ctx, "connect");
    setsockopt(r->socket.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* a unix socket has none */
    if (!r->tls) return GW_OK;
    gw_err_t err = gw_socket_shake_until(&r->socket, r->tls, true, r->deadline_us, ctx);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, GW_ERR_IO, "Redis: TLS");
}

/* BACKGROUND: a managed Redis is a name, whose address becomes that of another machine when it fails over. BEHAVIOR: the name is
 * asked for at each connecting, and a connection to one that may no longer be written is closed (is_demoted). The resolver has
 * time-outs of its own (man 5 resolv.conf: 5 s, twice), which the call's deadline does not shorten. */
static gw_err_t resolve(struct gw_redis *r, struct gw_err_ctx *ctx)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char port[8];
    if (!r->name[0]) return GW_OK;
    snprintf(port, sizeof port, "%u", r->port);
    int code = getaddrinfo(r->name, port, &hints, &list);
    if (code != 0) return gw_fail(ctx, GW_ERR_IO, "Redis: %s: %s", r->name, gai_strerror(code));
    r->addresses_len = 0;
    for (struct addrinfo *a = list; a && r->addresses_len < ADDRESSES_MAX; a = a->ai_next) {
        struct address *to = &r->addresses[r->addresses_len++];
        memcpy(&to->at, a->ai_addr, a->ai_addrlen);
        to->len = a->ai_addrlen;
    }
    freeaddrinfo(list);
    return GW_OK;
}

static gw_err_t reach_address(struct gw_redis *r, const struct address *a, struct gw_err_ctx *ctx)
{
    disconnect(r);
    r->socket = gw_socket_plain(socket(a->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (r->socket.fd < 0) return fail_io(ctx, "socket");
    if (connect(r->socket.fd, (const struct sockaddr *)&a->at, a->len) != 0 && errno != EINPROGRESS)
        return fail_io(ctx, "connect");
    return finish_connect(r, ctx);
}

/* The first address that lets itself be connected to. */
static gw_err_t reach_any(struct gw_redis *r, struct gw_err_ctx *ctx)
{
    gw_err_t err = gw_fail(ctx, GW_ERR_IO, "Redis: %s has no address", r->name);
    for (size_t i = 0; i < r->addresses_len && err != GW_OK; i++) {
        gw_err_reset(ctx);
        err = reach_address(r, &r->addresses[i], ctx);
    }
    return err;
}

static gw_err_t reach(struct gw_redis *r, struct gw_err_ctx *ctx)
{
    TRY(find_master(r, ctx));
    TRY(resolve(r, ctx));
    TRY(reach_any(r, ctx));
    if (redis_replies_reset(r->replies) != GW_OK) return gw_fail(ctx, GW_ERR_MEMORY, "Redis: out of memory");
    if (r->password) TRY(greet(r, "AUTH", r->password, r->password_len, ctx));
    if (strcmp(r->database, "0") == 0) return GW_OK;
    return greet(r, "SELECT", r->database, strlen(r->database), ctx);
}

/* A replica that was the master before a failover says so to every write. */
static bool is_demoted(const struct redis_answer *a)
{
    return strstr(a->error, "READONLY") != NULL;
}

gw_err_t gw_redis_call(struct gw_redis *r, const struct gw_redis_arg *args, int args_len,
                       struct gw_redis_reply *reply, struct gw_err_ctx *ctx)
{
    reply->answer = (struct redis_answer){0};
    r->deadline_us = gw_clock_mono_us() + r->timeout_us;
    gw_err_t err = r->socket.fd >= 0 ? GW_OK : reach(r, ctx);
    if (err == GW_OK) err = exchange(r, args, args_len, reply, ctx);
    /* An answer to this call that comes later would be taken for the next one's. */
    if (err != GW_OK && (reply->answer.error[0] == '\0' || is_demoted(&reply->answer))) disconnect(r);
    return err;
}

/* ---- making ---- */

static gw_err_t parse_unix(struct gw_redis *r, const char *path, struct gw_err_ctx *ctx)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof un.sun_path) return gw_fail(ctx, GW_ERR_INPUT, "the path is too long");
    memcpy(un.sun_path, path, strlen(path));
    memcpy(&r->addresses[0].at, &un, sizeof un);
    r->addresses[0].len = sizeof un;
    r->addresses_len = 1;
    return GW_OK;
}

static gw_err_t parse_database(struct gw_redis *r, const char *text, struct gw_err_ctx *ctx)
{
    size_t len = strspn(text, "0123456789");
    if (len == 0 || len > 5 || text[len] || strtol(text, NULL, 10) > DATABASES_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "'%s' is no number of a database", text);
    snprintf(r->database, sizeof r->database, "%s", text);
    return GW_OK;
}

static gw_err_t open_tls(struct gw_redis *r, const struct gw_redis_config *c, struct gw_err_ctx *ctx)
{
    const char *name = c->tls_name ? c->tls_name : r->name[0] ? r->name : NULL;
    const struct gw_tls_verify_config config = {.ca_file = c->ca_file, .name = name};
    return gw_tls_verify_create(&config, &r->tls, ctx);
}

/* "HOST:PORT,HOST:PORT/NAME[/DATABASE]" */
static gw_err_t parse_sentinels(struct gw_redis *r, const char *rest, bool tls,
                                const struct gw_redis_config *c, struct gw_err_ctx *ctx)
{
    char list[SENTINELS_BYTES], name[GW_SENTINEL_NAME_BYTES];
    size_t len = strcspn(rest, "/");
    const char *after = rest + len + (rest[len] == '/');
    size_t name_len = strcspn(after, "/");
    if (len >= sizeof list || name_len >= sizeof name || name_len == 0)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "'%s': say " BY_SENTINEL "://HOST:PORT,HOST:PORT/NAME of the master", c->url);
    if (tls && !c->tls_name)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "'%s': sentinels name addresses, so say by --redis-tls-name whom the "
                       "certificates must be for",
                       c->url);
    snprintf(list, sizeof list, "%.*s", (int)len, rest);
    snprintf(name, sizeof name, "%.*s", (int)name_len, after);
    if (after[name_len] && after[name_len + 1]) TRY(parse_database(r, after + name_len + 1, ctx));
    if (tls) TRY(open_tls(r, c, ctx));
    return gw_sentinels_open(list, name, tls, c, &r->sentinels, ctx);
}

/* What is behind "redis", "rediss" and the like. False: it is none of them. */
static bool cut_scheme(const char *url, bool *tls, bool *by_sentinel, const char **rest)
{
    const char *at = url + strlen("redis");
    if (strncmp(url, "redis", strlen("redis")) != 0) return false;
    *tls = *at == 's';
    at += *tls;
    *by_sentinel = strncmp(at, BY_SENTINEL, strlen(BY_SENTINEL)) == 0;
    at += *by_sentinel ? strlen(BY_SENTINEL) : 0;
    *rest = at + strlen("://");
    return strncmp(at, "://", strlen("://")) == 0;
}

static gw_err_t parse_server(struct gw_redis *r, const char *rest, bool tls, const struct gw_redis_config *c,
                             struct gw_err_ctx *ctx)
{
    char endpoint[HOST_BYTES + 8];
    if (rest[0] == '/' && !tls) return parse_unix(r, rest, ctx);
    size_t len = strcspn(rest, "/");
    if (len >= sizeof endpoint) return gw_fail(ctx, GW_ERR_INPUT, "'%s': the address is too long", c->url);
    snprintf(endpoint, sizeof endpoint, "%.*s", (int)len, rest);
    if (rest[len] && rest[len + 1]) TRY(parse_database(r, rest + len + 1, ctx));
    TRY(parse_endpoint(r, endpoint, ctx));
    if (tls) return open_tls(r, c, ctx);
    return check_plaintext(r, c->url, ctx);
}

static gw_err_t parse_url(struct gw_redis *r, const struct gw_redis_config *c, struct gw_err_ctx *ctx)
{
    bool tls, by_sentinel;
    const char *rest;
    r->plaintext_is_fine = c->insecure_plaintext;
    if (!cut_scheme(c->url, &tls, &by_sentinel, &rest))
        return gw_fail(ctx, GW_ERR_INPUT, "'%s' does not begin with " SCHEME " or " SCHEME_TLS, c->url);
    if (memchr(rest, '@', strcspn(rest, "/")))
        return gw_fail(ctx, GW_ERR_INPUT, "a password is given by file, never in a URL");
    return by_sentinel ? parse_sentinels(r, rest, tls, c, ctx) : parse_server(r, rest, tls, c, ctx);
}

static gw_err_t set_up(struct gw_redis *r, const struct gw_redis_config *c, struct gw_err_ctx *ctx)
{
    const struct redis_listener listener = {r, on_element, on_answer};
    TRY(parse_url(r, c, ctx));
    if (c->password_file) TRY(gw_secret_read(c->password_file, &r->password, &r->password_len, ctx));
    r->replies = redis_replies_create(&listener);
    return r->replies ? GW_OK : gw_fail(ctx, GW_ERR_MEMORY, "Redis: out of memory");
}

gw_err_t gw_redis_open(const struct gw_redis_config *c, struct gw_redis **out, struct gw_err_ctx *ctx)
{
    struct gw_redis *r = calloc(1, sizeof *r);
    if (!r) return gw_fail(ctx, GW_ERR_MEMORY, "Redis: out of memory");
    r->socket = gw_socket_none();
    r->timeout_us = c->timeout_us ? c->timeout_us : TIMEOUT_US;
    snprintf(r->database, sizeof r->database, "0");
    gw_err_t err = set_up(r, c, ctx);
    if (err == GW_OK)
        *out = r;
    else
        gw_redis_close(r);
    return err;
}

void gw_redis_close(struct gw_redis *r)
{
    if (!r) return;
    disconnect(r);
    gw_sentinels_close(r->sentinels);
    gw_tls_destroy(r->tls);
    redis_replies_destroy(r->replies);
    gw_secret_free(r->password, r->password_len);
    free(r);
}
