#include "controller/cli/settled.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

struct counts {
    int serving, coming;
};

static struct counts count_pipelines(const cJSON *layout)
{
    struct counts n = {0};
    const cJSON *p;
    cJSON_ArrayForEach(p, cJSON_GetObjectItemCaseSensitive(layout, "pipelines"))
    {
        const char *state = NULL;
        if (gw_json_string(p, "state", &state, NULL) != GW_OK || !state) continue;
        n.serving += strcmp(state, "serving") == 0;
        n.coming += strcmp(state, "forming") == 0 || strcmp(state, "ready") == 0;
    }
    return n;
}

bool cluster_settled(const cJSON *layout, char unserved[UNSERVED_BYTES])
{
    const cJSON *plan = cJSON_GetObjectItemCaseSensitive(layout, "plan");
    int64_t planned = 0, made = 0;
    bool under_way = true;
    const char *reason = NULL;
    struct counts n = count_pipelines(layout);
    if (gw_json_int(plan, "pipelines", 0, INT32_MAX, &planned, NULL) != GW_OK ||
        gw_json_int(plan, "made", 0, INT32_MAX, &made, NULL) != GW_OK ||
        gw_json_bool(plan, "under_way", &under_way, NULL) != GW_OK ||
        gw_json_string(plan, "reason", &reason, NULL) != GW_OK)
        return false;
    bool nothing = n.serving == 0 && made > 0 && planned == 0;
    snprintf(unserved, UNSERVED_BYTES, "%s", nothing && reason ? reason : "");
    return !under_way && n.coming == 0 && (n.serving > 0 || nothing);
}
