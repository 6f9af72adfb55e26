/* Who the process is towards a cloud's API: credentials, fetched and kept fresh.
 *
 * Sans-I/O as the notice sources are: an auth says what to ask and when, and hears the answer; the calls (calls.h)
 * carry it. The first of these that there is, is used:
 *
 *     aws     AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN)
 *             AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, by STS
 *             AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI (AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)
 *             the instance's role, by IMDSv2
 *     gcp     the instance's service account, by its metadata server
 *     azure   the instance's managed identity, by its metadata service
 *     none    nobody in particular: a simulated cloud does not ask
 *
 * Credentials are renewed GW_AUTH_EARLY_US before they end; what is there serves meanwhile.
 *
 * Owner: create/destroy; texts of the config are borrowed. Thread: one. Units: microseconds on the monotonic clock.
 * Errors: GW_ERR_MEMORY at creation. Secrets are wiped when replaced. Source: the SDKs' documented chains. */
#ifndef GW_CLOUD_AUTH_H
#define GW_CLOUD_AUTH_H

#include "cloud/cloud.h"
#include "cloud/source.h"

#define GW_AUTH_EARLY_US ((int64_t)600000000)

struct gw_auth_config {
    const char *metadata_url; /* NULL: the cloud's own */
    const char *endpoint;     /* of AWS's STS; NULL: by region */
    const char *region;
    const char *(*env)(const char *name); /* getenv */
    const struct gw_log *log;
};

struct gw_auth_ops {
    gw_err_t (*create)(const struct gw_auth_config *config, void **out);
    void (*destroy)(void *auth);
    /* When to ask next, and what; INT64_MAX: never. */
    int64_t (*next)(void *auth, struct gw_source_now now, struct gw_web_request *out);
    void (*hear)(void *auth, struct gw_source_now now, const struct gw_web_reply *reply);
    /* NULL: there are none yet, or none any more. */
    const struct gw_cloud_credentials *(*get)(const void *auth, struct gw_source_now now);
    /* The cloud says that they have ended. */
    void (*expired)(void *auth);
};

extern const struct gw_auth_ops gw_auth_aws, gw_auth_gcp, gw_auth_azure, gw_auth_none;

#endif
