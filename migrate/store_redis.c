#include "migrate/store_redis.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/hash.h"
#include "base/secret.h"
#include "base/sockaddr.h"
#include "base/tls_verify.h"
#include "migrate/redis_replies.h"
#include "migrate/store_internal.h"

#define SCHEME_TLS  "rediss://"
#define KEY_PREFIX  "godwit:page:1:"
#define KEY_BYTES   (sizeof KEY_PREFIX - 1 + 2 * GW_BLOCK_NAME_BYTES)
#define FIELD_BYTES 12 /* "65535.65535" */
#define ARGS_MAX    (2 + 2 * GW_STORE_PAGES_MAX)
#define GREETINGS   3 /* AUTH, SELECT, PING at most */

/* Answers per command. */
static const uint32_t answers_of[] = {[STORE_PUT] = 4, [STORE_GET] = 1, [STORE_HAS] = 2};

struct redis {
    struct store_server *server;
    struct redis_replies *replies;
    char *user, *password; /* NULL: none */
    size_t password_len;
    char database[12], ttl[12];
    uint32_t greetings_left;

    /* of the oldest command */
    uint32_t answers;
    enum gw_store_outcome outcome;
    bool found;

    /* of the command being written */
    const char *args[ARGS_MAX];
    size_t lens[ARGS_MAX];
    int args_len;
    char key[KEY_BYTES + 1];
    char fields[GW_STORE_PAGES_MAX][FIELD_BYTES];
    uint8_t *scratch; /* sealed pages */
    size_t scratch_bytes;
};

/* ---- commands ---- */

static void arg(struct redis *r, const void *bytes, size_t len)
{
    r->args[r->args_len] = bytes;
    r->lens[r->args_len++] = len;
}

static void word(struct redis *r, const char *text)
{
    arg(r, text, strlen(text));
}

static void free_command(const void *bytes, size_t len, void *unused)
{
    (void)len;
    (void)unused;
    redisFreeCommand((char *)bytes);
}

static void wipe_command(const void *bytes, size_t len, void *unused)
{
    gw_bytes_wipe((char *)bytes, len);
    free_command(bytes, len, unused);
}

/* Appends the command whose arguments were collected. Its one copy is hiredis'. */
static gw_err_t put_command_then(struct redis *r, struct evbuffer *out, evbuffer_ref_cleanup_cb sent)
{
    char *text = NULL;
    int len = redisFormatCommandArgv(&text, r->args_len, r->args, r->lens);
    r->args_len = 0;
    if (len < 0) return GW_ERR_MEMORY;
    if (evbuffer_add_reference(out, text, (size_t)len, sent, NULL) == 0) return GW_OK;
    sent(text, (size_t)len, NULL);
    return GW_ERR_MEMORY;
}

static gw_err_t put_command(struct redis *r, struct evbuffer *out)
{
    return put_command_then(r, out, free_command);
}

static void begin(struct redis *r, const char *verb, const struct store_op *op)
{
    memcpy(r->key, KEY_PREFIX, sizeof KEY_PREFIX - 1);
    gw_hex(op->name.bytes, GW_BLOCK_NAME_BYTES, r->key + sizeof KEY_PREFIX - 1);
    word(r, verb);
    arg(r, r->key, KEY_BYTES);
}

static void field(struct redis *r, uint32_t i, struct gw_page_id id)
{
    int n = snprintf(r->fields[i], FIELD_BYTES, "%u.%u", id.group, id.head);
    arg(r, r->fields[i], (size_t)n);
}

static gw_err_t put_expire(struct redis *r, const struct store_op *op, struct evbuffer *out)
{
    begin(r, "EXPIRE", op);
    word(r, r->ttl);
    return put_command(r, out);
}

static gw_err_t make_scratch(struct redis *r, size_t bytes)
{
    if (bytes <= r->scratch_bytes) return GW_OK;
    uint8_t *scratch = realloc(r->scratch, bytes);
    if (!scratch) return GW_ERR_MEMORY;
    r->scratch = scratch;
    r->scratch_bytes = bytes;
    return GW_OK;
}

static gw_err_t page_values(struct redis *r, const struct store_op *op)
{
    const struct store_call *c = op->call;
    uint8_t *sealed = r->scratch;
    for (uint32_t i = 0; i < c->pages_len; i++) {
        size_t len = store_sealed_bytes(c->store, c->pages[i].len);
        field(r, i, c->pages[i].id);
        arg(r, c->store->sealer ? sealed : c->pages[i].bytes, len);
        if (!c->store->sealer) continue;
        TRY(store_seal(op, i, sealed));
        sealed += len;
    }
    return GW_OK;
}

static gw_err_t put_put(struct redis *r, const struct store_op *op, struct evbuffer *out)
{
    if (op->call->store->sealer) TRY(make_scratch(r, op->call->bytes));
    word(r, "MULTI");
    TRY(put_command(r, out));
    begin(r, "HSET", op);
    TRY(page_values(r, op));
    TRY(put_command(r, out));
    TRY(put_expire(r, op, out));
    word(r, "EXEC");
    return put_command(r, out);
}

static gw_err_t put_get(struct redis *r, const struct store_op *op, struct evbuffer *out)
{
    begin(r, "HMGET", op);
    for (uint32_t i = 0; i < op->call->pages_len; i++) field(r, i, op->call->pages[i].id);
    return put_command(r, out);
}

static gw_err_t put_has(struct redis *r, const struct store_op *op, struct evbuffer *out)
{
    begin(r, "HEXISTS", op);
    field(r, 0, op->call->pages[0].id);
    TRY(put_command(r, out));
    return put_expire(r, op, out);
}

/* The commands of one op are collected apart, so that half of them is never sent. */
static gw_err_t redis_encode(void *state, const struct store_op *op, struct evbuffer *out)
{
    struct redis *r = state;
    struct evbuffer *whole = evbuffer_new();
    gw_err_t err = GW_ERR_MEMORY;
    if (!whole) return err;
    r->args_len = 0;
    switch (op->call->verb) {
    case STORE_PUT: err = put_put(r, op, whole); break;
    case STORE_GET: err = put_get(r, op, whole); break;
    case STORE_HAS: err = put_has(r, op, whole); break;
    }
    if (err == GW_OK && evbuffer_add_buffer(out, whole) != 0) err = GW_ERR_MEMORY;
    evbuffer_free(whole);
    return err;
}

static gw_err_t redis_greet(void *state, struct evbuffer *out)
{
    struct redis *r = state;
    r->answers = r->greetings_left = 0;
    r->outcome = GW_STORE_OK;
    r->found = false;
    r->args_len = 0;
    TRY(redis_replies_reset(r->replies));
    if (r->password) {
        word(r, "AUTH");
        if (r->user) word(r, r->user);
        arg(r, r->password, r->password_len);
        TRY(put_command_then(r, out, wipe_command));
        r->greetings_left++;
    }
    if (strcmp(r->database, "0") != 0) {
        word(r, "SELECT");
        word(r, r->database);
        TRY(put_command(r, out));
        r->greetings_left++;
    }
    word(r, "PING"); /* refused while it loads, or wants a password */
    r->greetings_left++;
    return put_command(r, out);
}

/* ---- answers ---- */

static bool begins_with_any(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strncmp(text, *words, strlen(*words)) == 0) return true;
    return false;
}

static gw_err_t on_error(struct redis *r, const char *text, struct gw_err_ctx *ctx)
{
    static const char *const full[] = {"OOM", "MISCONF", NULL};
    static const char *const unfit[] = {"LOADING", "READONLY", "MASTERDOWN", "NOAUTH", "CLUSTERDOWN",
                                        "MOVED",   "BUSY",     "TRYAGAIN",   NULL};
    if (begins_with_any(text, unfit)) return gw_fail(ctx, GW_ERR_IO, "it says: %s", text);
    if (begins_with_any(text, full)) store_full(r->server);
    gw_logf(r->server->store->log, GW_LOG_DEBUG, "store %s refused: %s", r->server->address, text);
    r->outcome = GW_STORE_REFUSED;
    return GW_OK;
}

/* Does the answer fit the command? Errors fit all. */
static bool fits(const struct redis *r, const struct store_slot *slot, const struct redis_answer *a)
{
    if (a->type == REDIS_ANSWER_ERROR) return true;
    switch (slot->verb) {
    case STORE_PUT:
        if (r->answers + 1 < answers_of[STORE_PUT]) return a->type == REDIS_ANSWER_STATUS;
        return a->type == REDIS_ANSWER_ARRAY && a->elements == 2;
    case STORE_GET: return a->type == REDIS_ANSWER_ARRAY && a->elements == slot->pages_len;
    case STORE_HAS: return a->type == REDIS_ANSWER_INTEGER;
    }
    return false;
}

static void command_over(struct redis *r)
{
    enum gw_store_outcome outcome = r->outcome;
    bool found = r->found;
    r->answers = 0;
    r->outcome = GW_STORE_OK;
    r->found = false;
    store_answer(r->server, outcome, found);
}

static gw_err_t on_greeting(struct redis *r, const struct redis_answer *a, struct gw_err_ctx *ctx)
{
    if (a->type != REDIS_ANSWER_STATUS) return gw_fail(ctx, GW_ERR_IO, "it refuses us: %s", a->error);
    if (--r->greetings_left == 0) store_ready(r->server);
    return GW_OK;
}

static gw_err_t on_answer(void *state, const struct redis_answer *a, struct gw_err_ctx *ctx)
{
    struct redis *r = state;
    if (r->greetings_left > 0) return on_greeting(r, a, ctx);
    const struct store_slot *slot = store_oldest(r->server);
    if (!slot || !fits(r, slot, a)) return gw_fail(ctx, GW_ERR_PROTO, "it answers what was not asked");
    /* EXECABORT only repeats what was said before; a reader's EXPIRE is a courtesy. */
    bool ignored = r->outcome != GW_STORE_OK || (slot->verb == STORE_HAS && r->answers == 1);
    if (a->error[0] && !ignored) TRY(on_error(r, a->error, ctx));
    if (slot->verb == STORE_HAS && r->answers == 0) r->found = a->integer == 1;
    if (++r->answers == answers_of[slot->verb]) command_over(r);
    return GW_OK;
}

static gw_err_t on_element(void *state, uint32_t i, const char *bytes, size_t len)
{
    struct redis *r = state;
    const struct store_slot *slot = store_oldest(r->server);
    if (r->greetings_left > 0 || !slot) return GW_ERR_PROTO;
    if (slot->verb != STORE_GET) return GW_OK;
    if (i >= slot->pages_len) return GW_ERR_PROTO;
    if (bytes)
        store_page(r->server, i, bytes, len);
    else
        store_page_missing(r->server);
    return GW_OK;
}

static gw_err_t redis_feed(void *state, const void *bytes, size_t len, struct gw_err_ctx *ctx)
{
    return redis_replies_feed(((struct redis *)state)->replies, bytes, len, ctx);
}

/* ---- making ---- */

static void redis_destroy(void *state)
{
    struct redis *r = state;
    redis_replies_destroy(r->replies);
    gw_secret_free(r->password, r->password_len);
    free(r->user);
    free(r->scratch);
    free(r);
}

static const struct store_protocol redis_protocol = {redis_greet, redis_encode, redis_feed, redis_destroy};

/* *tls: it is to be spoken there. */
static gw_err_t parse_address(const char *text, bool insecure, struct sockaddr_storage *addr, socklen_t *len,
                              bool *tls, struct gw_err_ctx *ctx)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    char host[64];
    uint16_t port;
    if (text[0] == '/') {
        if (strlen(text) >= sizeof un.sun_path)
            return gw_fail(ctx, GW_ERR_INPUT, "'%s': the path is too long", text);
        memcpy(un.sun_path, text, strlen(text));
        memcpy(addr, &un, sizeof un);
        *len = sizeof un;
        return GW_OK;
    }
    *tls = strncmp(text, SCHEME_TLS, sizeof SCHEME_TLS - 1) == 0;
    TRY(gw_sockaddr_split(*tls ? text + sizeof SCHEME_TLS - 1 : text, host, sizeof host, &port, ctx));
    TRY(gw_sockaddr_parse(host, port, addr, len, ctx));
    if (*tls || insecure || gw_sockaddr_is_loopback(addr)) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT,
                   "'%s' is not loopback: say " SCHEME_TLS
                   ", or --insecure-plaintext if the network is yours "
                   "(pages are sealed, the password is not)",
                   text);
}

static gw_err_t copy_secrets(struct redis *r, const struct gw_store_redis_config *c, struct gw_err_ctx *ctx)
{
    if (c->password_file) TRY(gw_secret_read(c->password_file, &r->password, &r->password_len, ctx));
    if (c->user && !(r->user = strdup(c->user))) return gw_fail(ctx, GW_ERR_MEMORY, "store: out of memory");
    return GW_OK;
}

static gw_err_t redis_create(const struct gw_store_redis_config *c, struct redis **out,
                             struct gw_err_ctx *ctx)
{
    struct redis *r = calloc(1, sizeof *r);
    if (!r) return gw_fail(ctx, GW_ERR_MEMORY, "store: out of memory");
    const struct redis_listener listener = {r, on_element, on_answer};
    snprintf(r->database, sizeof r->database, "%" PRIu32, c->database);
    snprintf(r->ttl, sizeof r->ttl, "%" PRIu32, c->ttl_s ? c->ttl_s : GW_STORE_REDIS_TTL_S);
    r->replies = redis_replies_create(&listener);
    gw_err_t err = r->replies ? copy_secrets(r, c, ctx) : gw_fail(ctx, GW_ERR_MEMORY, "store: out of memory");
    if (err == GW_OK)
        *out = r;
    else
        redis_destroy(r);
    return err;
}

static gw_err_t add_server(struct gw_store *s, const struct gw_store_redis_config *c, const char *address,
                           struct gw_err_ctx *ctx)
{
    const struct gw_tls_verify_config verify = {.ca_file = c->ca_file, .name = c->tls_name};
    struct sockaddr_storage addr = {0};
    socklen_t len = 0;
    struct redis *r = NULL;
    bool tls = false;
    TRY(parse_address(address, c->insecure_plaintext, &addr, &len, &tls, ctx));
    if (tls && !s->tls) TRY(gw_tls_verify_create(&verify, &s->tls, ctx));
    TRY(redis_create(c, &r, ctx));
    gw_err_t err = store_add_server(s, &redis_protocol, r, address, &r->server, ctx);
    if (err != GW_OK) {
        redis_destroy(r);
        return err;
    }
    r->server->addr = addr;
    r->server->addr_len = len;
    r->server->tls = tls ? s->tls : NULL;
    r->server->due_us = 1; /* at once */
    return GW_OK;
}

gw_err_t gw_store_redis_create(const struct gw_store_redis_config *c, struct gw_store **out,
                               struct gw_err_ctx *ctx)
{
    struct gw_store *s = NULL;
    if (c->servers_len == 0) return gw_fail(ctx, GW_ERR_INPUT, "store: no Redis server is named");
    TRY(store_create(&c->common, &s, ctx));
    gw_err_t err = GW_OK;
    for (uint32_t i = 0; i < c->servers_len && err == GW_OK; i++) err = add_server(s, c, c->servers[i], ctx);
    if (err == GW_OK) err = store_start(s, ctx);
    if (err == GW_OK)
        *out = s;
    else
        gw_store_destroy(s);
    return err;
}
