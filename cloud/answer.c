#include "cloud/answer_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"

#define TIMEOUT_US (20 * GW_US_PER_S)
#define ERROR_MAX  (64u << 10)

bool answer_copy(char *to, size_t size, const char *text)
{
    size_t len = strlen(text);
    if (len >= size) return false;
    memcpy(to, text, len + 1);
    return true;
}

gw_err_t answer_grow(void **items, size_t *cap, size_t len, size_t max, size_t item_bytes)
{
    if (len < *cap) return GW_OK;
    if (len >= max) return GW_ERR_LIMIT;
    size_t want = *cap ? *cap * 2 : 64;
    void *more = realloc(*items, want * item_bytes);
    if (!more) return GW_ERR_MEMORY;
    *items = more;
    *cap = want;
    return GW_OK;
}

gw_err_t answer_add_instance(struct gw_cloud_answer *a, const struct gw_cloud_instance *in)
{
    if (in->id[0] == '\0') return GW_ERR_PROTO;
    TRY(answer_grow((void **)&a->instances, &a->instances_cap, a->instances_len, GW_CLOUD_INSTANCES_MAX,
                    sizeof *a->instances));
    a->instances[a->instances_len++] = *in;
    return GW_OK;
}

void answer_put_escaped(struct gw_buf *b, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        bool plain = (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') ||
                     strchr("-_.~", *c);
        if (!plain) {
            gw_buf_u8(b, '%');
            gw_buf_u8(b, (uint8_t)hex[*c >> 4]);
        }
        gw_buf_u8(b, plain ? *c : (uint8_t)hex[*c & 15]);
    }
}

const char *answer_text(const cJSON *tree, const char *field)
{
    const char *text = NULL;
    return gw_json_string(tree, field, &text, NULL) == GW_OK && text ? text : "";
}

bool answer_path_ok(const char *text)
{
    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("/._-", *c)) return false;
    return text[0] && !strstr(text, "..");
}

static void read_message(const char *body, size_t len, char *out, size_t out_size)
{
    cJSON *tree = NULL;
    out[0] = '\0';
    if (gw_json_parse(body, len, ERROR_MAX, &tree, NULL) != GW_OK) return;
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
    snprintf(out, out_size, "%s", answer_text(error, "message"));
    cJSON_Delete(tree);
}

enum gw_cloud_verdict answer_refused(const char *provider, const struct gw_cloud_ask *ask, int status,
                                     const char *body, size_t body_len, const char *fix,
                                     struct gw_err_ctx *ctx)
{
    char message[320];
    bool denied = status == 401 || status == 403;
    read_message(body, body_len, message, sizeof message);
    (void)gw_fail(ctx, GW_ERR_CLOUD, "%s: %s: status %d: %s%s", provider,
                  gw_cloud_question_name(ask->question), status,
                  message[0] ? message : "an answer that is not as documented", denied ? fix : "");
    if (status == 401) return GW_CLOUD_EXPIRED;
    /* 409: another operation on the group is under way; 412: it changed since. */
    return status == 429 || status == 409 || status == 412 || status / 100 == 5 ? GW_CLOUD_AGAIN
                                                                                : GW_CLOUD_NO;
}

gw_err_t answer_request(const char *base, const char *method, struct gw_buf *path,
                        const struct gw_cloud_place *place, const struct gw_cloud_credentials *credentials,
                        struct gw_cloud_http *out, struct gw_err_ctx *ctx)
{
    const char *text = gw_buf_cstr(path);
    int len = snprintf(out->url, sizeof out->url, "%s%s", place->endpoint ? place->endpoint : base,
                       text ? text : "");
    if (!text || len < 0 || (size_t)len >= sizeof out->url || out->body.err != GW_OK)
        return gw_fail(ctx, GW_ERR_LIMIT, "the request is too long");
    bool named = credentials->session_token[0] != '\0';
    snprintf(out->session_header, sizeof out->session_header, "Authorization: Bearer %s",
             credentials->session_token);
    out->request = (struct gw_web_request){
        .method = method,
        .url = out->url,
        .headers = {"Content-Type: application/json", named ? out->session_header : NULL},
        .timeout_us = TIMEOUT_US,
        .body_max = GW_CLOUD_BODY_MAX};
    if (strcmp(method, "GET") == 0) return GW_OK;
    out->request.body = out->body.len ? gw_buf_cstr(&out->body) : "";
    out->request.body_len = out->body.len;
    return GW_OK;
}
