/* GCP's half of the provider table: regional managed instance groups.
 *
 *     group       projects/P/regions/R/instanceGroupManagers/NAME
 *     instance    the numeric id; the handle is zones/Z/instances/NAME, which calls take
 *
 * A group makes a deleted name anew. A deletion's requestId is made of the id: asked again within the hour, it does not
 * hit the new instance that bears the name. (Asked for the first time when the name has already changed hands, it would:
 * describe the group just before.) Deletion by the group lowers its size. Source: Compute Engine API v1, regionInstanceGroupManagers. */
#include "cloud/cloud.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "cloud/answer_internal.h"

#define BASE       "https://compute.googleapis.com"
#define FIX        "; the controller's service account needs this permission (terraform/modules/gcp)"
#define PAGE       500
#define FIRST_PAGE "first" /* of the instances: the page behind the group itself */

/* ---- requests ------------------------------------------------------------------------------------------ */

static void put_path(struct gw_buf *path, const struct gw_cloud_ask *ask, const char *page)
{
    gw_buf_printf(path, "/compute/v1/%s", ask->group);
    if (ask->question == GW_CLOUD_SET_DESIRED) gw_buf_printf(path, "/resize?size=%u", ask->desired);
    if (ask->question == GW_CLOUD_DELETE_INSTANCE) gw_buf_puts(path, "/deleteInstances");
    if (ask->question != GW_CLOUD_DESCRIBE_GROUP || !page[0]) return;
    gw_buf_printf(path, "/listManagedInstances?maxResults=%d", PAGE);
    if (strcmp(page, FIRST_PAGE) == 0) return;
    gw_buf_puts(path, "&pageToken=");
    answer_put_escaped(path, page);
}

/* A UUID that is always the same for one instance's deletion. */
static void put_request_id(struct gw_buf *path, const char *instance)
{
    uint64_t a = gw_hash64(instance, strlen(instance), 1), b = gw_hash64(instance, strlen(instance), 2);
    gw_buf_printf(path, "?requestId=%08x-%04x-4%03x-8%03x-%012llx", (unsigned)(a >> 32),
                  (unsigned)(a >> 16 & 0xffff), (unsigned)(a & 0xfff), (unsigned)(b >> 48 & 0xfff),
                  (unsigned long long)(b & 0xffffffffffffull));
}

static gw_err_t put_delete(const struct gw_cloud_ask *ask, struct gw_buf *path, struct gw_buf *body,
                           struct gw_err_ctx *ctx)
{
    if (!ask->instance || !ask->handle || !answer_path_ok(ask->handle))
        return gw_fail(ctx, GW_ERR_INPUT,
                       "gcp: an instance's id and handle are needed, as describe gives them");
    put_request_id(path, ask->instance);
    gw_buf_puts(body, "{\"instances\":[");
    gw_json_put_string(body, ask->handle, strlen(ask->handle));
    gw_buf_puts(body, "],\"skipInstancesOnValidationError\":true}");
    return GW_OK;
}

static gw_err_t write_to(struct gw_buf *path, const struct gw_cloud_place *place,
                         const struct gw_cloud_ask *ask, const char *page,
                         const struct gw_cloud_credentials *credentials, struct gw_cloud_http *out,
                         struct gw_err_ctx *ctx)
{
    bool get = ask->question == GW_CLOUD_DESCRIBE_GROUP && !page[0];
    put_path(path, ask, page);
    if (ask->question == GW_CLOUD_DELETE_INSTANCE) TRY(put_delete(ask, path, &out->body, ctx));
    return answer_request(BASE, get ? "GET" : "POST", path, place, credentials, out, ctx);
}

static gw_err_t gcp_write(const struct gw_cloud_place *place, const struct gw_cloud_ask *ask,
                          const char *page, const struct gw_cloud_credentials *credentials,
                          struct gw_cloud_http *out, struct gw_err_ctx *ctx)
{
    struct gw_buf path;
    if (ask->question != GW_CLOUD_DESCRIBE_GROUP && ask->question != GW_CLOUD_SET_DESIRED &&
        ask->question != GW_CLOUD_DELETE_INSTANCE)
        return gw_fail(ctx, GW_ERR_NOT_FOUND, "gcp: no such question");
    if (!ask->group || !answer_path_ok(ask->group))
        return gw_fail(ctx, GW_ERR_INPUT, "gcp: a group is projects/P/regions/R/instanceGroupManagers/NAME");
    gw_buf_init(&path, ANSWER_PATH_MAX);
    gw_err_t err = write_to(&path, place, ask, page, credentials, out, ctx);
    gw_buf_fini(&path);
    return err;
}

/* ---- answers ------------------------------------------------------------------------------------------- */

static enum gw_cloud_state state_of(const cJSON *item)
{
    const char *action = answer_text(item, "currentAction"), *status = answer_text(item, "instanceStatus");
    if (strcmp(action, "DELETING") == 0 || strcmp(action, "ABANDONING") == 0 ||
        strcmp(status, "STOPPING") == 0 || strcmp(status, "TERMINATED") == 0)
        return GW_CLOUD_ENDING;
    return strcmp(status, "RUNNING") == 0 ? GW_CLOUD_RUNNING : GW_CLOUD_PENDING;
}

/* "…/zones/europe-west4-a/instances/godwit-spot-x7k2" → zone; the id is numeric. */
static gw_err_t add_managed(struct gw_cloud_answer *a, const cJSON *item, struct gw_err_ctx *ctx)
{
    struct gw_cloud_instance in = {.state = state_of(item)};
    const char *zone = strstr(answer_text(item, "instance"), "/zones/");
    if (!answer_text(item, "id")[0]) return GW_OK; /* it is not made yet */
    size_t len = zone ? strcspn(zone + 7, "/") : 0;
    if (len == 0 || len >= sizeof in.zone || !answer_copy(in.id, sizeof in.id, answer_text(item, "id")))
        return gw_fail(ctx, GW_ERR_PROTO, "an instance without a zone, or with an id too long");
    if (!answer_copy(in.handle, sizeof in.handle, zone + 1))
        return gw_fail(ctx, GW_ERR_LIMIT, "an instance's name is too long");
    memcpy(in.zone, zone + 7, len);
    return answer_add_instance(a, &in);
}

static gw_err_t read_list(const cJSON *tree, struct gw_cloud_answer *a, struct gw_err_ctx *ctx)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "managedInstances"), *item;
    const char *next = answer_text(tree, "nextPageToken");
    if (list && !cJSON_IsArray(list)) return gw_fail(ctx, GW_ERR_PROTO, "no list of instances");
    cJSON_ArrayForEach(item, list) TRY(add_managed(a, item, ctx));
    return answer_copy(a->next, sizeof a->next, next) ? GW_OK
                                                      : gw_fail(ctx, GW_ERR_LIMIT, "a page token too long");
}

/* The group itself comes first (max is not known before), then the pages of its instances. */
static gw_err_t read_describe(const cJSON *tree, struct gw_cloud_answer *a, struct gw_err_ctx *ctx)
{
    int64_t size = -1;
    if (a->max) return read_list(tree, a, ctx);
    TRY(gw_json_int(tree, "targetSize", 0, GW_CLOUD_INSTANCES_MAX, &size, ctx));
    if (size < 0) return gw_fail(ctx, GW_ERR_PROTO, "a group without targetSize");
    a->desired = (uint32_t)size;
    a->max = GW_CLOUD_INSTANCES_MAX; /* groups have no bounds of their own: they are the controller's */
    snprintf(a->next, sizeof a->next, FIRST_PAGE);
    return GW_OK;
}

/* Resize and deleteInstances give an operation, which may have failed already. */
static gw_err_t read_operation(const cJSON *tree, struct gw_err_ctx *ctx)
{
    if (!answer_text(tree, "name")[0]) return gw_fail(ctx, GW_ERR_PROTO, "no operation");
    if (!cJSON_HasObjectItem(tree, "error")) return GW_OK;
    return gw_fail(ctx, GW_ERR_CLOUD, "the operation failed: %.200s", answer_text(tree, "httpErrorMessage"));
}

static enum gw_cloud_verdict gcp_read(const struct gw_cloud_ask *ask, int status, const char *body,
                                      size_t body_len, struct gw_cloud_answer *answer, struct gw_err_ctx *ctx)
{
    cJSON *tree = NULL;
    if (status != 200) return answer_refused("gcp", ask, status, body, body_len, FIX, ctx);
    answer->next[0] = '\0';
    gw_err_t err = gw_json_parse(body, body_len, GW_CLOUD_BODY_MAX, &tree, ctx);
    if (err == GW_OK && !cJSON_IsObject(tree)) err = gw_fail(ctx, GW_ERR_PROTO, "not an object");
    if (err == GW_OK)
        err = ask->question == GW_CLOUD_DESCRIBE_GROUP ? read_describe(tree, answer, ctx)
                                                       : read_operation(tree, ctx);
    cJSON_Delete(tree);
    if (err == GW_OK) return GW_CLOUD_OK;
    (void)gw_fail_prefix(ctx, GW_ERR_CLOUD, "gcp: %s", gw_cloud_question_name(ask->question));
    return GW_CLOUD_NO;
}

const struct gw_cloud_provider gw_provider_gcp = {.name = "gcp", .write = gcp_write, .read = gcp_read};
