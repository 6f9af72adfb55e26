/* AWS credentials: which source, its questions, its answers.
 *
 * Source: AWS SDKs and Tools Reference Guide, "Container credential provider", "Assume role with web identity", "IMDS
 * credential provider". */
#include "cloud/auth.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "cloud/times.h"
#include "cloud/xml.h"

#define IMDS_URL       "http://169.254.169.254"
#define CONTAINER_URL  "http://169.254.170.2"
#define TIMEOUT_US     (5 * GW_US_PER_S)
#define RETRY_US       (2 * GW_US_PER_S)
#define SAME_AGAIN_US  (60 * GW_US_PER_S) /* renewed ones were the same: the service makes new ones later */
#define BODY_MAX       (16u << 10)
#define URL_MAX        1024
#define ROLE_MAX       128
#define TOKEN_FILE_MAX (8u << 10)

enum kind { BY_ENV, BY_WEB_IDENTITY, BY_CONTAINER, BY_IMDS };
enum step { STEP_TOKEN, STEP_ROLE, STEP_KEYS }; /* of BY_IMDS; the others have STEP_KEYS alone */

struct aws_auth {
    struct gw_auth_config config;
    enum kind kind;
    enum step step;
    struct gw_cloud_credentials credentials;
    bool have;
    int64_t ends_us, due_us; /* ends_us: INT64_MAX = never */
    char imds_token[sizeof "X-aws-ec2-metadata-token: " + 256], role[ROLE_MAX];
    char url[URL_MAX], authorization[TOKEN_FILE_MAX + 32];
    struct gw_buf body;
    bool said;
};

static const char *env(const struct aws_auth *a, const char *name)
{
    const char *value = a->config.env(name);
    return value && value[0] ? value : NULL;
}

static enum kind find_kind(const struct aws_auth *a)
{
    if (env(a, "AWS_ACCESS_KEY_ID") && env(a, "AWS_SECRET_ACCESS_KEY")) return BY_ENV;
    if (env(a, "AWS_WEB_IDENTITY_TOKEN_FILE") && env(a, "AWS_ROLE_ARN")) return BY_WEB_IDENTITY;
    bool container =
        env(a, "AWS_CONTAINER_CREDENTIALS_FULL_URI") || env(a, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    return container ? BY_CONTAINER : BY_IMDS;
}

/* ---- what is asked ------------------------------------------------------------------------------------- */

static void ask_imds(struct aws_auth *a, struct gw_web_request *q)
{
    const char *base = a->config.metadata_url ? a->config.metadata_url : IMDS_URL;
    if (a->step == STEP_TOKEN) {
        snprintf(a->url, sizeof a->url, "%s/latest/api/token", base);
        q->method = "PUT";
        q->body = "";
        q->headers[0] = "X-aws-ec2-metadata-token-ttl-seconds: 300";
        return;
    }
    snprintf(a->url, sizeof a->url, "%s/latest/meta-data/iam/security-credentials/%s", base,
             a->step == STEP_KEYS ? a->role : "");
    q->headers[0] = a->imds_token;
}

/* A token in a header, a form or an address: of printable characters alone. */
static bool read_token_file(const char *path, char **out)
{
    size_t len = 0;
    if (gw_file_read(path, TOKEN_FILE_MAX, out, &len, NULL) != GW_OK) return false;
    while (len && isspace((unsigned char)(*out)[len - 1])) (*out)[--len] = '\0';
    for (size_t i = 0; i < len; i++)
        if (!isgraph((unsigned char)(*out)[i])) len = 0;
    if (len) return true;
    free(*out);
    return false;
}

static void ask_container(struct aws_auth *a, struct gw_web_request *q)
{
    const char *full = env(a, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const char *file = env(a, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
               *token = env(a, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
    char *text = NULL;
    if (full)
        snprintf(a->url, sizeof a->url, "%s", full);
    else
        snprintf(a->url, sizeof a->url, CONTAINER_URL "%s", env(a, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"));
    if (file && read_token_file(file, &text)) token = text; /* read each time: it is rotated */
    if (token) {
        snprintf(a->authorization, sizeof a->authorization, "Authorization: %s", token);
        q->headers[0] = a->authorization;
    }
    free(text);
}

static void ask_web_identity(struct aws_auth *a, struct gw_web_request *q)
{
    char *token = NULL;
    if (a->config.endpoint)
        snprintf(a->url, sizeof a->url, "%s/", a->config.endpoint);
    else
        snprintf(a->url, sizeof a->url, "https://sts.%s.amazonaws.com/", a->config.region);
    gw_buf_reset(&a->body);
    /* Both are free of characters that a form escapes, but for those of ARNs, which it need not. */
    gw_buf_printf(&a->body,
                  "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=godwit&RoleArn=%s&"
                  "WebIdentityToken=",
                  env(a, "AWS_ROLE_ARN"));
    if (read_token_file(env(a, "AWS_WEB_IDENTITY_TOKEN_FILE"), &token)) gw_buf_puts(&a->body, token);
    free(token);
    q->method = "POST";
    q->body = gw_buf_cstr(&a->body);
    q->body_len = a->body.len;
    q->direct = false;
}

static int64_t aws_next(void *auth, struct gw_source_now now, struct gw_web_request *q)
{
    struct aws_auth *a = auth;
    *q = (struct gw_web_request){
        .method = "GET", .url = a->url, .timeout_us = TIMEOUT_US, .body_max = BODY_MAX, .direct = true};
    if (a->kind == BY_ENV) return INT64_MAX;
    if (a->due_us > now.mono_us) return a->due_us;
    if (a->kind == BY_IMDS) ask_imds(a, q);
    if (a->kind == BY_CONTAINER) ask_container(a, q);
    if (a->kind == BY_WEB_IDENTITY) ask_web_identity(a, q);
    return a->due_us;
}

/* ---- what is heard ------------------------------------------------------------------------------------- */

static bool take(char *to, size_t size, const char *text)
{
    if (!text || strlen(text) >= size) return false;
    for (const char *c = text; *c; c++)
        if (!isgraph((unsigned char)*c)) return false;
    snprintf(to, size, "%s", text);
    return true;
}

/* False: something is missing, or is none. Then *a is as it was. */
static bool take_keys(struct aws_auth *a, struct gw_source_now now, const char *key, const char *secret,
                      const char *token, const char *expiration)
{
    struct gw_cloud_credentials c = {{0}, {0}, {0}};
    int64_t ends_ms = 0;
    bool ok = key && key[0] && take(c.access_key, sizeof c.access_key, key) &&
              take(c.secret_key, sizeof c.secret_key, secret) &&
              take(c.session_token, sizeof c.session_token, token) && expiration &&
              gw_time_parse_iso(expiration, &ends_ms) == GW_OK;
    bool same = ok && a->have && strcmp(c.access_key, a->credentials.access_key) == 0;
    if (ok) {
        a->credentials = c;
        a->have = true;
        a->ends_us = now.mono_us + (ends_ms - now.unix_ms) * GW_US_PER_MS;
        a->due_us = a->ends_us - GW_AUTH_EARLY_US;
        if (same || a->due_us < now.mono_us + SAME_AGAIN_US) a->due_us = now.mono_us + SAME_AGAIN_US;
    }
    gw_bytes_wipe(&c, sizeof c);
    return ok;
}

/* {"Code": "Success", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"}; containers have no Code. */
static bool read_keys(struct aws_auth *a, struct gw_source_now now, const struct gw_web_reply *reply)
{
    cJSON *tree = NULL;
    const char *key = NULL, *secret = NULL, *token = NULL, *expiration = NULL;
    if (gw_json_parse(reply->body, reply->body_len, BODY_MAX, &tree, NULL) != GW_OK) return false;
    bool ok = gw_json_string(tree, "AccessKeyId", &key, NULL) == GW_OK &&
              gw_json_string(tree, "SecretAccessKey", &secret, NULL) == GW_OK &&
              gw_json_string(tree, "Token", &token, NULL) == GW_OK &&
              gw_json_string(tree, "Expiration", &expiration, NULL) == GW_OK &&
              take_keys(a, now, key, secret, token, expiration);
    cJSON_Delete(tree);
    return ok;
}

struct sts_keys {
    char key[160], secret[160], token[4096], expiration[64];
};

static gw_err_t on_sts_end(void *arg, const char *path, const char *text)
{
    struct sts_keys *k = arg;
    const char *name = strstr(path, "/Credentials/");
    if (!name) return GW_OK;
    name += strlen("/Credentials/");
    if (strcmp(name, "AccessKeyId") == 0) snprintf(k->key, sizeof k->key, "%s", text);
    if (strcmp(name, "SecretAccessKey") == 0) snprintf(k->secret, sizeof k->secret, "%s", text);
    if (strcmp(name, "SessionToken") == 0) snprintf(k->token, sizeof k->token, "%s", text);
    if (strcmp(name, "Expiration") == 0) snprintf(k->expiration, sizeof k->expiration, "%s", text);
    return GW_OK;
}

static bool read_sts(struct aws_auth *a, struct gw_source_now now, const struct gw_web_reply *reply)
{
    struct sts_keys k = {{0}, {0}, {0}, {0}};
    const struct gw_xml_handler handler = {.end = on_sts_end, .arg = &k};
    bool ok = gw_xml_walk(reply->body, reply->body_len, &handler, NULL) == GW_OK &&
              take_keys(a, now, k.key, k.secret, k.token, k.expiration);
    gw_bytes_wipe(&k, sizeof k);
    return ok;
}

static bool read_imds(struct aws_auth *a, struct gw_source_now now, const struct gw_web_reply *reply)
{
    char token[256];
    switch (a->step) {
    case STEP_TOKEN:
        if (!take(token, sizeof token, reply->body)) return false;
        snprintf(a->imds_token, sizeof a->imds_token, "X-aws-ec2-metadata-token: %s", token);
        a->step = STEP_ROLE;
        return true;
    case STEP_ROLE:
        if (!reply->body_len || strchr(reply->body, '/') || !take(a->role, sizeof a->role, reply->body))
            return false;
        a->step = STEP_KEYS;
        return true;
    case STEP_KEYS: a->step = STEP_TOKEN; return read_keys(a, now, reply);
    }
    return false;
}

static const char *kind_name(enum kind kind)
{
    static const char *const names[] = {"environment", "web identity (AWS_ROLE_ARN)", "container endpoint",
                                        "instance role (IMDS): does the instance have a profile?"};
    return names[kind];
}

static void fail(struct aws_auth *a, int64_t now_us, const struct gw_web_reply *reply)
{
    a->step = STEP_TOKEN;
    a->due_us = now_us + RETRY_US;
    if (!a->said)
        gw_logf(a->config.log, GW_LOG_ERROR, "no AWS credentials from %s: status %d %s", kind_name(a->kind),
                reply->status, reply->why);
    a->said = true;
}

static void aws_hear(void *auth, struct gw_source_now now, const struct gw_web_reply *reply)
{
    struct aws_auth *a = auth;
    bool ok = reply->err == GW_OK && reply->status == 200;
    if (ok && a->kind == BY_IMDS) ok = read_imds(a, now, reply);
    if (ok && a->kind == BY_CONTAINER) ok = read_keys(a, now, reply);
    if (ok && a->kind == BY_WEB_IDENTITY) ok = read_sts(a, now, reply);
    if (!ok) fail(a, now.mono_us, reply);
    if (ok) a->said = false;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

static void take_env(struct aws_auth *a)
{
    struct gw_cloud_credentials *c = &a->credentials;
    const char *token = env(a, "AWS_SESSION_TOKEN");
    a->have = take(c->access_key, sizeof c->access_key, env(a, "AWS_ACCESS_KEY_ID")) &&
              take(c->secret_key, sizeof c->secret_key, env(a, "AWS_SECRET_ACCESS_KEY")) &&
              (!token || take(c->session_token, sizeof c->session_token, token));
    a->ends_us = INT64_MAX;
}

static gw_err_t aws_create(const struct gw_auth_config *config, void **out)
{
    struct aws_auth *a = calloc(1, sizeof *a);
    if (!a) return GW_ERR_MEMORY;
    a->config = *config;
    gw_buf_init(&a->body, TOKEN_FILE_MAX * 2);
    a->kind = find_kind(a);
    if (a->kind == BY_ENV) take_env(a);
    *out = a;
    return GW_OK;
}

static void aws_destroy(void *auth)
{
    struct aws_auth *a = auth;
    if (!a) return;
    gw_buf_fini(&a->body);
    gw_bytes_wipe(a, sizeof *a);
    free(a);
}

static const struct gw_cloud_credentials *aws_get(const void *auth, struct gw_source_now now)
{
    const struct aws_auth *a = auth;
    return a->have && now.mono_us < a->ends_us ? &a->credentials : NULL;
}

static void aws_expired(void *auth)
{
    struct aws_auth *a = auth;
    if (a->kind == BY_ENV) return; /* there are no others */
    a->have = false;
    a->due_us = 0;
}

const struct gw_auth_ops gw_auth_aws = {.create = aws_create,
                                        .destroy = aws_destroy,
                                        .next = aws_next,
                                        .hear = aws_hear,
                                        .get = aws_get,
                                        .expired = aws_expired};
