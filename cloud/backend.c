#include "cloud/backend.h"

#include <string.h>

const struct gw_cloud_backend *gw_cloud_backend_find(const char *name)
{
    static const struct gw_cloud_backend all[] = {{&gw_provider_aws, &gw_auth_aws},
                                                  {&gw_provider_gcp, &gw_auth_gcp},
                                                  {&gw_provider_azure, &gw_auth_azure},
                                                  {&gw_provider_sim, &gw_auth_none}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i].provider->name, name) == 0) return &all[i];
    return NULL;
}
