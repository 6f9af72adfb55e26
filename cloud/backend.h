/* Backends: which provider table and which credentials go with a cloud's name.
 *
 * Owner: static. Thread: any. Units: none. Errors: none; NULL for a name that is none. Source: own design. */
#ifndef GW_CLOUD_BACKEND_H
#define GW_CLOUD_BACKEND_H

#include "cloud/auth.h"

struct gw_cloud_backend {
    const struct gw_cloud_provider *provider;
    const struct gw_auth_ops *auth;
};

/* "aws", "gcp", "azure", "sim". */
const struct gw_cloud_backend *gw_cloud_backend_find(const char *name);

#endif
