/* GCP's and Azure's credentials: a bearer token of the instance's own account, by its metadata service.
 *
 * The token travels as the credentials' session token; there are no keys.
 *
 * Source: Google Cloud, "Authenticate workloads to APIs using service accounts: access tokens"; Azure, "How to use managed
 * identities for Azure resources on a VM to acquire an access token". */
#include "cloud/auth.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"

#define GCP_URL   "http://metadata.google.internal"
#define GCP_PATH  "/computeMetadata/v1/instance/service-accounts/default/token"
#define AZURE_URL "http://169.254.169.254"
#define AZURE_PATH                                                                                           \
    "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F"
#define TIMEOUT_US    (5 * GW_US_PER_S)
#define RETRY_US      (2 * GW_US_PER_S)
#define SOON_US       (60 * GW_US_PER_S) /* services give the same token until it is about to end */
#define BODY_MAX      (16u << 10)
#define URL_MAX       512
#define EXPIRES_S_MAX 86400

struct token_auth {
    struct gw_auth_config config;
    bool gcp;
    struct gw_cloud_credentials credentials;
    int64_t ends_us, due_us;
    bool have, said;
    char url[URL_MAX];
};

static int64_t token_next(void *auth, struct gw_source_now now, struct gw_web_request *q)
{
    struct token_auth *a = auth;
    (void)now;
    const char *base = a->config.metadata_url ? a->config.metadata_url : a->gcp ? GCP_URL : AZURE_URL;
    snprintf(a->url, sizeof a->url, "%s%s", base, a->gcp ? GCP_PATH : AZURE_PATH);
    *q = (struct gw_web_request){
        .method = "GET", .url = a->url, .timeout_us = TIMEOUT_US, .body_max = BODY_MAX, .direct = true};
    q->headers[0] = a->gcp ? "Metadata-Flavor: Google" : "Metadata: true";
    return a->due_us;
}

/* GCP writes expires_in as a number, Azure as a string of one. */
static int64_t expires_s(const cJSON *tree)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(tree, "expires_in");
    double s = cJSON_IsNumber(item)   ? item->valuedouble
               : cJSON_IsString(item) ? strtod(item->valuestring, NULL)
                                      : 0;
    return s > 0 && s <= EXPIRES_S_MAX ? (int64_t)s : 0;
}

/* It becomes a header: printable characters alone. */
static bool token_ok(const char *token)
{
    size_t len = strlen(token);
    for (size_t i = 0; i < len; i++)
        if (!isgraph((unsigned char)token[i])) return false;
    return len > 0 && len < sizeof((struct gw_cloud_credentials *)0)->session_token;
}

static bool read_token(struct token_auth *a, int64_t now_us, const struct gw_web_reply *reply)
{
    cJSON *tree = NULL;
    const char *token = NULL;
    if (gw_json_parse(reply->body, reply->body_len, BODY_MAX, &tree, NULL) != GW_OK) return false;
    int64_t left_us = expires_s(tree) * GW_US_PER_S;
    bool ok = gw_json_string(tree, "access_token", &token, NULL) == GW_OK && token && token_ok(token) &&
              left_us > 0;
    if (ok) {
        snprintf(a->credentials.session_token, sizeof a->credentials.session_token, "%s", token);
        a->have = true;
        a->ends_us = now_us + left_us;
        a->due_us = a->ends_us - GW_AUTH_EARLY_US;
        if (a->due_us < now_us + SOON_US) a->due_us = now_us + SOON_US;
    }
    cJSON_Delete(tree);
    return ok;
}

static void token_hear(void *auth, struct gw_source_now now, const struct gw_web_reply *reply)
{
    struct token_auth *a = auth;
    if (reply->err == GW_OK && reply->status == 200 && read_token(a, now.mono_us, reply)) {
        a->said = false;
        return;
    }
    a->due_us = now.mono_us + RETRY_US;
    if (!a->said)
        gw_logf(a->config.log, GW_LOG_ERROR,
                "no credentials from %s: status %d %s: does the instance have one?",
                a->gcp ? "the service account" : "the managed identity", reply->status, reply->why);
    a->said = true;
}

static const struct gw_cloud_credentials *token_get(const void *auth, struct gw_source_now now)
{
    const struct token_auth *a = auth;
    return a->have && now.mono_us < a->ends_us ? &a->credentials : NULL;
}

static void token_expired(void *auth)
{
    struct token_auth *a = auth;
    a->have = false;
    a->due_us = 0;
}

static gw_err_t create(const struct gw_auth_config *config, bool gcp, void **out)
{
    struct token_auth *a = calloc(1, sizeof *a);
    if (!a) return GW_ERR_MEMORY;
    a->config = *config;
    a->gcp = gcp;
    *out = a;
    return GW_OK;
}

static gw_err_t gcp_create(const struct gw_auth_config *config, void **out)
{
    return create(config, true, out);
}

static gw_err_t azure_create(const struct gw_auth_config *config, void **out)
{
    return create(config, false, out);
}

static void token_destroy(void *auth)
{
    if (auth) gw_bytes_wipe(auth, sizeof(struct token_auth));
    free(auth);
}

const struct gw_auth_ops gw_auth_gcp = {.create = gcp_create,
                                        .destroy = token_destroy,
                                        .next = token_next,
                                        .hear = token_hear,
                                        .get = token_get,
                                        .expired = token_expired};

const struct gw_auth_ops gw_auth_azure = {.create = azure_create,
                                          .destroy = token_destroy,
                                          .next = token_next,
                                          .hear = token_hear,
                                          .get = token_get,
                                          .expired = token_expired};
