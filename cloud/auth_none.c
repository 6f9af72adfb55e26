/* Nobody in particular: what a simulated cloud asks for. There is nothing to fetch, and nothing ends. Source: own design. */
#include "cloud/auth.h"

static const struct gw_cloud_credentials nobody;

static gw_err_t none_create(const struct gw_auth_config *config, void **out)
{
    (void)config;
    *out = NULL;
    return GW_OK;
}

static void none_destroy(void *auth)
{
    (void)auth;
}

static int64_t none_next(void *auth, struct gw_source_now now, struct gw_web_request *out)
{
    (void)auth;
    (void)now;
    *out = (struct gw_web_request){0};
    return INT64_MAX;
}

static void none_hear(void *auth, struct gw_source_now now, const struct gw_web_reply *reply)
{
    (void)auth;
    (void)now;
    (void)reply;
}

static const struct gw_cloud_credentials *none_get(const void *auth, struct gw_source_now now)
{
    (void)auth;
    (void)now;
    return &nobody;
}

static void none_expired(void *auth)
{
    (void)auth;
}

const struct gw_auth_ops gw_auth_none = {.create = none_create,
                                         .destroy = none_destroy,
                                         .next = none_next,
                                         .hear = none_hear,
                                         .get = none_get,
                                         .expired = none_expired};
