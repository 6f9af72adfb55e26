/* Azure's half of the provider table: virtual machine scale sets.
 *
 *     group       subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/virtualMachineScaleSets/NAME
 *     instance    vmId; the handle is its number in the set, which calls take and which is never given twice
 *
 * Deletion by the set lowers its capacity. Source: Azure REST API, "Virtual Machine Scale Sets" 2024-07-01: Get, Update,
 * Delete Instances; "Virtual Machine Scale Set VMs": List. */
#include "cloud/cloud.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cloud/azure_internal.h"

#define BASE       "https://management.azure.com"
#define VERSION    "api-version=2024-07-01"
#define FIX        "; the controller's managed identity needs this action (terraform/modules/azure)"
#define FIRST_PAGE "first" /* of the instances: the page behind the set itself; the others are paths */

/* ---- requests ------------------------------------------------------------------------------------------ */

/* instanceIds are decimal numbers. */
static bool handle_ok(const char *handle)
{
    size_t len = handle ? strlen(handle) : 0;
    for (size_t i = 0; i < len; i++)
        if (!isdigit((unsigned char)handle[i])) return false;
    return len > 0 && len < 12;
}

static void put_path(struct gw_buf *path, const struct gw_cloud_ask *ask, const char *page)
{
    if (page[0] == '/') {
        gw_buf_puts(path, page);
        return;
    }
    gw_buf_printf(path, "/%s", ask->group);
    if (ask->question == GW_CLOUD_DELETE_INSTANCE) gw_buf_puts(path, "/delete");
    if (page[0]) gw_buf_puts(path, "/virtualMachines");
    gw_buf_puts(path, "?" VERSION);
}

static gw_err_t put_body(const struct gw_cloud_ask *ask, struct gw_buf *body, struct gw_err_ctx *ctx)
{
    if (ask->question == GW_CLOUD_SET_DESIRED)
        gw_buf_printf(body, "{\"sku\":{\"capacity\":%u}}", ask->desired);
    if (ask->question != GW_CLOUD_DELETE_INSTANCE) return GW_OK;
    if (!handle_ok(ask->handle))
        return gw_fail(ctx, GW_ERR_INPUT, "azure: an instance's handle is needed, as describe gives it");
    gw_buf_printf(body, "{\"instanceIds\":[\"%s\"]}", ask->handle);
    return GW_OK;
}

static gw_err_t azure_write(const struct gw_cloud_place *place, const struct gw_cloud_ask *ask,
                            const char *page, const struct gw_cloud_credentials *credentials,
                            struct gw_cloud_http *out, struct gw_err_ctx *ctx)
{
    struct gw_buf path;
    const char *method = ask->question == GW_CLOUD_DESCRIBE_GROUP    ? "GET"
                         : ask->question == GW_CLOUD_SET_DESIRED     ? "PATCH"
                         : ask->question == GW_CLOUD_DELETE_INSTANCE ? "POST"
                                                                     : NULL;
    if (ask->question == GW_CLOUD_SPOT_PRICES) return azure_prices_write(place, ask, page, out, ctx);
    if (!method) return gw_fail(ctx, GW_ERR_NOT_FOUND, "azure: no such question");
    if (!ask->group || !answer_path_ok(ask->group))
        return gw_fail(ctx, GW_ERR_INPUT,
                       "azure: a group is subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/"
                       "virtualMachineScaleSets/NAME");
    gw_buf_init(&path, ANSWER_PATH_MAX);
    put_path(&path, ask, page);
    gw_err_t err = put_body(ask, &out->body, ctx);
    if (err == GW_OK) err = answer_request(BASE, method, &path, place, credentials, out, ctx);
    gw_buf_fini(&path);
    return err;
}

/* ---- answers ------------------------------------------------------------------------------------------- */

static enum gw_cloud_state state_of(const char *provisioning)
{
    if (strcmp(provisioning, "Succeeded") == 0 || strcmp(provisioning, "Updating") == 0)
        return GW_CLOUD_RUNNING;
    return strcmp(provisioning, "Creating") == 0 ? GW_CLOUD_PENDING : GW_CLOUD_ENDING; /* Deleting, Failed */
}

static gw_err_t add_vm(struct gw_cloud_answer *a, const cJSON *item, struct gw_err_ctx *ctx)
{
    const cJSON *properties = cJSON_GetObjectItemCaseSensitive(item, "properties");
    const cJSON *sku = cJSON_GetObjectItemCaseSensitive(item, "sku");
    const cJSON *zone = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(item, "zones"), 0);
    struct gw_cloud_instance in = {.state = state_of(answer_text(properties, "provisioningState"))};
    in.spot = strcmp(answer_text(properties, "priority"), "Spot") == 0;
    bool ok = handle_ok(answer_text(item, "instanceId")) &&
              answer_copy(in.handle, sizeof in.handle, answer_text(item, "instanceId")) &&
              answer_copy(in.id, sizeof in.id, answer_text(properties, "vmId")) &&
              answer_copy(in.type, sizeof in.type, answer_text(sku, "name")) &&
              answer_copy(in.zone, sizeof in.zone, cJSON_IsString(zone) ? zone->valuestring : "");
    return ok ? answer_add_instance(a, &in) : gw_fail(ctx, GW_ERR_PROTO, "an instance without its ids");
}

gw_err_t azure_take_next(const char *link, struct gw_cloud_answer *a, struct gw_err_ctx *ctx)
{
    const char *host = strstr(link, "://"), *path = host ? strchr(host + 3, '/') : NULL;
    if (!link[0]) return GW_OK;
    if (!path || strpbrk(path, " \r\n\t\"<>") || !answer_copy(a->next, sizeof a->next, path))
        return gw_fail(ctx, GW_ERR_PROTO, "an odd nextLink");
    return GW_OK;
}

static gw_err_t read_list(const cJSON *tree, struct gw_cloud_answer *a, struct gw_err_ctx *ctx)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "value"), *item;
    if (!cJSON_IsArray(list)) return gw_fail(ctx, GW_ERR_PROTO, "no list of instances");
    cJSON_ArrayForEach(item, list) TRY(add_vm(a, item, ctx));
    return azure_take_next(answer_text(tree, "nextLink"), a, ctx);
}

/* The set itself comes first (max is not known before), then the pages of its instances. */
static gw_err_t read_describe(const cJSON *tree, struct gw_cloud_answer *a, struct gw_err_ctx *ctx)
{
    int64_t capacity = -1;
    const cJSON *sku = cJSON_GetObjectItemCaseSensitive(tree, "sku");
    if (a->max) return read_list(tree, a, ctx);
    TRY(gw_json_int(sku, "capacity", 0, GW_CLOUD_INSTANCES_MAX, &capacity, ctx));
    if (capacity < 0) return gw_fail(ctx, GW_ERR_PROTO, "a set without capacity");
    a->desired = (uint32_t)capacity;
    a->max = GW_CLOUD_INSTANCES_MAX; /* sets have no bounds of their own: they are the controller's */
    snprintf(a->next, sizeof a->next, FIRST_PAGE);
    return GW_OK;
}

static enum gw_cloud_verdict azure_read(const struct gw_cloud_ask *ask, int status, const char *body,
                                        size_t body_len, struct gw_cloud_answer *answer,
                                        struct gw_err_ctx *ctx)
{
    cJSON *tree = NULL;
    if (status / 100 != 2) return answer_refused("azure", ask, status, body, body_len, FIX, ctx);
    answer->next[0] = '\0';
    if (ask->question != GW_CLOUD_DESCRIBE_GROUP && ask->question != GW_CLOUD_SPOT_PRICES)
        return GW_CLOUD_OK; /* accepted: it goes on by itself */
    gw_err_t err = gw_json_parse(body, body_len, GW_CLOUD_BODY_MAX, &tree, ctx);
    if (err == GW_OK && !cJSON_IsObject(tree)) err = gw_fail(ctx, GW_ERR_PROTO, "not an object");
    if (err == GW_OK)
        err = ask->question == GW_CLOUD_SPOT_PRICES ? azure_prices_read(tree, answer, ctx)
                                                    : read_describe(tree, answer, ctx);
    cJSON_Delete(tree);
    if (err == GW_OK) return GW_CLOUD_OK;
    (void)gw_fail_prefix(ctx, GW_ERR_CLOUD, "azure: %s", gw_cloud_question_name(ask->question));
    return GW_CLOUD_NO;
}

const struct gw_cloud_provider gw_provider_azure = {
    .name = "azure", .write = azure_write, .read = azure_read};
