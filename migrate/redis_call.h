/* Redis, one call at a time: a connection for a thread that may wait, with a deadline on every wait.
 *
 * Commands are formatted and replies read by hiredis (redis_replies.h: what a reply may be); sockets are ours. A
 * connection that failed, or leads to a replica (READONLY), is made again by the next call; a call that failed may have been
 * carried out or not. An address may be a name: it is resolved at each connecting, by the system's resolver, whose time-outs are
 * its own; a certificate must then be for it.
 *
 * Owner: open/close. Thread: one at a time. Units: microseconds. Errors: GW_ERR_IO: it cannot be reached, did not answer in
 * time, or said no (reply->error, if it was that); GW_ERR_INPUT for an address that is none, or needs TLS; what
 * gw_secret_read says of the password; GW_ERR_PROTO, GW_ERR_MEMORY. Source: RESP2; DESIGN part 9. */
#ifndef GW_MIGRATE_REDIS_CALL_H
#define GW_MIGRATE_REDIS_CALL_H

#include <stdint.h>

#include "base/socket.h"
#include "migrate/redis_replies.h"

#define GW_REDIS_ARGS_MAX  1024
#define GW_REDIS_VALUE_MAX ((size_t)4 << 20) /* of one string in a reply */

struct gw_redis;

struct gw_redis_config {
    /* redis://address:port[/database], or a name, rediss://… with TLS, redis:///path/of/a/unix/socket; or by whom sentinels
     * name (redis_sentinel.h) */
    const char *url;
    const char *password_file;      /* NULL: none */
    const char *ca_file, *tls_name; /* base/tls_verify.h */
    int64_t timeout_us;             /* of a call, connecting included; 0 = 2 s */
    bool insecure_plaintext;        /* an address off loopback is fine */
};

struct gw_redis_arg {
    const void *bytes;
    size_t len;
};

struct gw_redis_reply {
    struct redis_answer answer;
    /* Called for each element of an array; bytes NULL: nil. NULL: of no interest. */
    gw_err_t (*element)(void *arg, uint32_t index, const char *bytes, size_t len);
    void *arg;
};

/* Nothing is connected yet. */
gw_err_t gw_redis_open(const struct gw_redis_config *config, struct gw_redis **out,
                       struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_redis_close(struct gw_redis *redis);

/* Fills reply->answer, whose error is "" unless Redis said no (then GW_ERR_IO). args_len <= GW_REDIS_ARGS_MAX. */
gw_err_t gw_redis_call(struct gw_redis *redis, const struct gw_redis_arg *args, int args_len,
                       struct gw_redis_reply *reply, struct gw_err_ctx *ctx) GW_MUST_USE;

static inline struct gw_redis_arg gw_redis_word(const char *text)
{
    return (struct gw_redis_arg){text, __builtin_strlen(text)};
}

#endif
