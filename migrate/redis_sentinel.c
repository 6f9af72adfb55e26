#include "migrate/redis_sentinel.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENDPOINT_BYTES 272

struct gw_sentinels {
    char name[GW_SENTINEL_NAME_BYTES];
    struct gw_redis *links[GW_SENTINELS_MAX];
    uint32_t len, first; /* first: that answered last */
};

/* ---- asking ---- */

/* What a sentinel says: two strings, host and port. */
struct said {
    char host[256], port[8];
    uint32_t len;
};

static gw_err_t take_word(void *arg, uint32_t index, const char *bytes, size_t len)
{
    struct said *s = arg;
    char *to = index == 0 ? s->host : s->port;
    size_t cap = index == 0 ? sizeof s->host : sizeof s->port;
    if (index > 1 || !bytes || len == 0 || len >= cap || memchr(bytes, '\0', len)) return GW_ERR_PROTO;
    memcpy(to, bytes, len);
    to[len] = '\0';
    s->len = index + 1;
    return GW_OK;
}

static gw_err_t ask_one(struct gw_sentinels *s, struct gw_redis *link, char *master, struct gw_err_ctx *ctx)
{
    struct said said = {0};
    struct gw_redis_reply reply = {.element = take_word, .arg = &said};
    const struct gw_redis_arg args[] = {gw_redis_word("SENTINEL"), gw_redis_word("get-master-addr-by-name"),
                                        gw_redis_word(s->name)};
    TRY(gw_redis_call(link, args, 3, &reply, ctx));
    if (said.len != 2) return gw_fail(ctx, GW_ERR_IO, "Redis: a sentinel knows no master '%s'", s->name);
    bool v6 = strchr(said.host, ':') != NULL;
    snprintf(master, GW_SENTINEL_MASTER_BYTES, v6 ? "[%s]:%s" : "%s:%s", said.host, said.port);
    return GW_OK;
}

gw_err_t gw_sentinels_ask(struct gw_sentinels *s, char master[GW_SENTINEL_MASTER_BYTES],
                          struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_ERR_IO;
    for (uint32_t i = 0; i < s->len && err != GW_OK; i++) {
        uint32_t at = (s->first + i) % s->len;
        gw_err_reset(ctx);
        err = ask_one(s, s->links[at], master, ctx);
        if (err == GW_OK) s->first = at;
    }
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, GW_ERR_IO, "no sentinel says who is the master");
}

/* ---- making ---- */

static gw_err_t take_name(struct gw_sentinels *s, const char *name, struct gw_err_ctx *ctx)
{
    size_t len = strlen(name);
    bool good = len > 0 && len < sizeof s->name;
    for (size_t i = 0; i < len && good; i++) good = isgraph((unsigned char)name[i]);
    if (!good) return gw_fail(ctx, GW_ERR_INPUT, "'%.64s' is no name of a master", name);
    memcpy(s->name, name, len + 1);
    return GW_OK;
}

static gw_err_t open_one(struct gw_sentinels *s, const char *endpoint, size_t len, bool tls,
                         const struct gw_redis_config *like, struct gw_err_ctx *ctx)
{
    char url[ENDPOINT_BYTES];
    struct gw_redis_config config = *like;
    if (s->len == GW_SENTINELS_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "more than %d sentinels", GW_SENTINELS_MAX);
    if (len == 0 || len > sizeof url - sizeof "rediss://")
        return gw_fail(ctx, GW_ERR_INPUT, "a sentinel's address is empty or too long");
    snprintf(url, sizeof url, "%s://%.*s", tls ? "rediss" : "redis", (int)len, endpoint);
    config.url = url;
    config.password_file = NULL;
    config.timeout_us = GW_SENTINEL_TIMEOUT_US;
    TRY(gw_redis_open(&config, &s->links[s->len], ctx));
    s->len++;
    return GW_OK;
}

static gw_err_t open_all(struct gw_sentinels *s, const char *list, bool tls,
                         const struct gw_redis_config *like, struct gw_err_ctx *ctx)
{
    for (;; list++) {
        size_t len = strcspn(list, ",");
        TRY(open_one(s, list, len, tls, like, ctx));
        list += len;
        if (!*list) return GW_OK;
    }
}

gw_err_t gw_sentinels_open(const char *list, const char *name, bool tls, const struct gw_redis_config *like,
                           struct gw_sentinels **out, struct gw_err_ctx *ctx)
{
    struct gw_sentinels *s = calloc(1, sizeof *s);
    if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "Redis: out of memory");
    gw_err_t err = take_name(s, name, ctx);
    if (err == GW_OK) err = open_all(s, list, tls, like, ctx);
    if (err == GW_OK)
        *out = s;
    else
        gw_sentinels_close(s);
    return err;
}

void gw_sentinels_close(struct gw_sentinels *s)
{
    if (!s) return;
    for (uint32_t i = 0; i < s->len; i++) gw_redis_close(s->links[i]);
    free(s);
}
