#include "controller/cli/admin_client.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "base/sockaddr.h"

#define HOST_BYTES 256

struct admin_client {
    struct event_base *loop;
    struct evhttp_connection *connection;
    char admin[HOST_BYTES + 16]; /* for texts and the Host header */
    char *token;
    size_t token_len;
    const char *hint;
    /* the answer to the request at hand */
    bool posted;
    int status; /* 0: none came */
    bool timed_out;
    char *body;
    size_t body_len;
};

/* ---- one request ---- */

static void on_answer(struct evhttp_request *req, void *arg)
{
    struct admin_client *c = arg;
    c->status = req ? evhttp_request_get_response_code(req) : 0;
    struct evbuffer *in = c->status ? evhttp_request_get_input_buffer(req) : NULL;
    size_t len = in ? evbuffer_get_length(in) : 0;
    c->body = len ? malloc(len) : NULL;
    if (c->body) c->body_len = (size_t)evbuffer_remove(in, c->body, len);
    event_base_loopbreak(c->loop);
}

static void on_error(enum evhttp_request_error error, void *arg)
{
    struct admin_client *c = arg;
    c->timed_out = error == EVREQ_HTTP_TIMEOUT;
}

static void add_headers(struct admin_client *c, struct evhttp_request *req)
{
    char bearer[GW_SECRET_MAX + 16];
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    evhttp_add_header(headers, "Host", c->admin);
    if (!c->token) return;
    snprintf(bearer, sizeof bearer, "Bearer %.*s", (int)c->token_len, c->token);
    evhttp_add_header(headers, "Authorization", bearer);
}

static gw_err_t send_request(struct admin_client *c, const char *path, const char *body)
{
    struct evhttp_request *req = evhttp_request_new(on_answer, c);
    if (!req) return GW_ERR_MEMORY;
    evhttp_request_set_error_cb(req, on_error);
    add_headers(c, req);
    if (body) {
        evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", "application/json");
        evbuffer_add(evhttp_request_get_output_buffer(req), body, strlen(body));
    }
    enum evhttp_cmd_type method = body ? EVHTTP_REQ_POST : EVHTTP_REQ_GET;
    return evhttp_make_request(c->connection, req, method, path) == 0 ? GW_OK : GW_ERR_IO;
}

/* ---- what came ---- */

static gw_err_t nobody_answers(const struct admin_client *c, struct gw_err_ctx *ctx)
{
    if (c->timed_out)
        return gw_fail(ctx, GW_ERR_IO, "%s does not answer within %d s", c->admin, ADMIN_TIMEOUT_S);
    if (c->hint) return gw_fail(ctx, GW_ERR_IO, "nobody answers at %s: %s", c->admin, c->hint);
    return gw_fail(
        ctx, GW_ERR_IO,
        "nobody answers at %s: is a controller running, and its --admin-listen there? (see --admin)",
        c->admin);
}

/* The message of an OpenAI-shaped error. */
static gw_err_t said_no(const struct admin_client *c, const cJSON *answer, struct gw_err_ctx *ctx)
{
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(answer, "error");
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(error, "message");
    if (c->hint && !cJSON_IsString(message))
        return gw_fail(ctx, GW_ERR_PROTO, "%s answers with status %d: %s", c->admin, c->status, c->hint);
    if (c->status == 401)
        return gw_fail(ctx, GW_ERR_INPUT, "%s asks for its admin token%s: --admin-token-file FILE", c->admin,
                       c->token ? ", and it is not this one" : "");
    if (c->status == 403)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "%s without an admin token answers to numeric addresses alone: --admin ADDRESS:PORT",
                       c->admin);
    if (c->status == 404 && !c->posted && !c->hint)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "%s answers, but is no admin listener: --admin HOST:PORT (the API has another port)",
                       c->admin);
    if (cJSON_IsString(message))
        return gw_fail(ctx, c->status / 100 == 4 ? GW_ERR_INPUT : GW_ERR_IO, "%.400s", message->valuestring);
    return gw_fail(ctx, GW_ERR_PROTO, "%s answers with status %d: is it a controller's admin listener?",
                   c->admin, c->status);
}

static gw_err_t take_answer(struct admin_client *c, cJSON **out, struct gw_err_ctx *ctx)
{
    cJSON *answer = NULL;
    if (c->status == 0) return nobody_answers(c, ctx);
    gw_err_t err = gw_json_parse(c->body ? c->body : "", c->body_len, ADMIN_ANSWER_MAX, &answer, NULL);
    if (c->status / 100 == 2 && err != GW_OK)
        return gw_fail(ctx, GW_ERR_PROTO, "%s answers what is no JSON: is it a controller's admin listener?",
                       c->admin);
    if (c->status / 100 == 2) {
        *out = answer;
        return GW_OK;
    }
    err = said_no(c, answer, ctx);
    cJSON_Delete(answer);
    return err;
}

gw_err_t admin_call(struct admin_client *c, const char *path, const char *body, cJSON **out,
                    struct gw_err_ctx *ctx)
{
    c->status = 0;
    c->posted = body != NULL;
    c->timed_out = false;
    c->body_len = 0;
    gw_err_t err = send_request(c, path, body);
    if (err != GW_OK) return gw_fail(ctx, err, "%s: the request cannot be sent", c->admin);
    event_base_dispatch(c->loop);
    err = take_answer(c, out, ctx);
    free(c->body);
    c->body = NULL;
    return err;
}

/* ---- open and close ---- */

static gw_err_t connect_to(struct admin_client *c, const char *admin, struct gw_err_ctx *ctx)
{
    char host[HOST_BYTES];
    uint16_t port;
    gw_err_t err = gw_sockaddr_split(admin, host, sizeof host, &port, ctx);
    if (err != GW_OK) return gw_fail_prefix(ctx, err, "--admin");
    snprintf(c->admin, sizeof c->admin, "%s", admin);
    c->loop = event_base_new();
    c->connection = c->loop ? evhttp_connection_base_new(c->loop, NULL, host, port) : NULL;
    if (!c->connection) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    evhttp_connection_set_timeout(c->connection, ADMIN_TIMEOUT_S);
    evhttp_connection_set_max_body_size(c->connection, ADMIN_ANSWER_MAX);
    return GW_OK;
}

gw_err_t admin_open(const struct admin_options *o, struct admin_client **out, struct gw_err_ctx *ctx)
{
    struct admin_client *c = calloc(1, sizeof *c);
    if (!c) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    c->hint = o->hint;
    gw_err_t err = connect_to(c, o->admin, ctx);
    if (err == GW_OK && o->token_file) {
        err = gw_secret_read(o->token_file, &c->token, &c->token_len, ctx);
        if (err != GW_OK) gw_fail_prefix(ctx, err, "--admin-token-file");
    }
    if (err != GW_OK) {
        admin_close(c);
        return err;
    }
    *out = c;
    return GW_OK;
}

void admin_close(struct admin_client *c)
{
    if (!c) return;
    if (c->connection) evhttp_connection_free(c->connection);
    if (c->loop) event_base_free(c->loop);
    gw_secret_free(c->token, c->token_len);
    free(c->body);
    free(c);
}
