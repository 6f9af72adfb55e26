/* sim's half of the provider table: a simulated cloud's groups, for the demo, tests and a laptop.
 *
 *     DESCRIBE_GROUP    GET    /v1/groups/NAME            {"min": 0, "max": 8, "desired": 3, "instances": [{"id": "i-1",
 *                                                         "type": "sim.1", "zone": "z-a", "state": "running",
 *                                                         "spot": true}]}; state: pending, running or ending
 *     SET_DESIRED       POST   /v1/groups/NAME/desired    {"desired": 4}
 *     DELETE_INSTANCE   DELETE /v1/instances/ID           404: it is gone, done
 *     SPOT_PRICES       GET    /v1/prices                 {"prices": [{"type": "sim.1", "zone": "z-a", "usd_h": 0.2}]}
 *
 * Notices come by the sim source (source_sim.c). 409, 429 and 5xx are tried again. Source: own design. */
#include "cloud/cloud.h"

#include <string.h>

#include "base/json.h"
#include "cloud/answer_internal.h"

#define USD_H_MAX 1e6

/* ---- requests ------------------------------------------------------------------------------------------ */

static gw_err_t put_path(struct gw_buf *path, const struct gw_cloud_ask *ask, struct gw_err_ctx *ctx)
{
    const char *name = ask->question == GW_CLOUD_DELETE_INSTANCE ? ask->instance : ask->group;
    if (ask->question == GW_CLOUD_SPOT_PRICES) {
        gw_buf_puts(path, "/v1/prices");
        return GW_OK;
    }
    if (!name || !answer_path_ok(name)) return gw_fail(ctx, GW_ERR_INPUT, "sim: a plain name is needed");
    gw_buf_printf(path, ask->question == GW_CLOUD_DELETE_INSTANCE ? "/v1/instances/%s" : "/v1/groups/%s",
                  name);
    if (ask->question == GW_CLOUD_SET_DESIRED) gw_buf_puts(path, "/desired");
    return GW_OK;
}

static const char *method_of(enum gw_cloud_question question)
{
    if (question == GW_CLOUD_SET_DESIRED) return "POST";
    return question == GW_CLOUD_DELETE_INSTANCE ? "DELETE" : "GET";
}

static gw_err_t sim_write(const struct gw_cloud_place *place, const struct gw_cloud_ask *ask,
                          const char *page, const struct gw_cloud_credentials *credentials,
                          struct gw_cloud_http *out, struct gw_err_ctx *ctx)
{
    struct gw_buf path;
    (void)page;
    if (ask->question != GW_CLOUD_DESCRIBE_GROUP && ask->question != GW_CLOUD_SET_DESIRED &&
        ask->question != GW_CLOUD_DELETE_INSTANCE && ask->question != GW_CLOUD_SPOT_PRICES)
        return gw_fail(ctx, GW_ERR_NOT_FOUND, "sim: no such question");
    if (!place->endpoint) return gw_fail(ctx, GW_ERR_INPUT, "sim: the simulated cloud's address is needed");
    gw_buf_init(&path, ANSWER_PATH_MAX);
    gw_err_t err = put_path(&path, ask, ctx);
    if (err == GW_OK && ask->question == GW_CLOUD_SET_DESIRED)
        gw_buf_printf(&out->body, "{\"desired\":%u}", ask->desired);
    if (err == GW_OK) err = answer_request("", method_of(ask->question), &path, place, credentials, out, ctx);
    gw_buf_fini(&path);
    return err;
}

/* ---- answers ------------------------------------------------------------------------------------------- */

static bool read_state(const char *text, enum gw_cloud_state *out)
{
    static const char *const names[] = {
        [GW_CLOUD_PENDING] = "pending", [GW_CLOUD_RUNNING] = "running", [GW_CLOUD_ENDING] = "ending"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *out = (enum gw_cloud_state)i;
        return true;
    }
    return false;
}

static gw_err_t add_instance(struct gw_cloud_answer *a, const cJSON *item, struct gw_err_ctx *ctx)
{
    struct gw_cloud_instance in = {0};
    if (!answer_copy(in.id, sizeof in.id, answer_text(item, "id")) ||
        !answer_copy(in.type, sizeof in.type, answer_text(item, "type")) ||
        !answer_copy(in.zone, sizeof in.zone, answer_text(item, "zone")) ||
        !read_state(answer_text(item, "state"), &in.state))
        return gw_fail(ctx, GW_ERR_PROTO, "an instance that is none");
    TRY(gw_json_bool(item, "spot", &in.spot, ctx));
    gw_err_t err = answer_add_instance(a, &in);
    return err == GW_OK ? GW_OK : gw_fail(ctx, err, "an instance without an id, or too many");
}

static gw_err_t read_group(const cJSON *tree, struct gw_cloud_answer *a, struct gw_err_ctx *ctx)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "instances"), *item;
    int64_t min = 0, max = 0, desired = -1;
    TRY(gw_json_int(tree, "min", 0, GW_CLOUD_INSTANCES_MAX, &min, ctx));
    TRY(gw_json_int(tree, "max", 0, GW_CLOUD_INSTANCES_MAX, &max, ctx));
    TRY(gw_json_int(tree, "desired", 0, GW_CLOUD_INSTANCES_MAX, &desired, ctx));
    if (desired < 0 || !cJSON_IsArray(list))
        return gw_fail(ctx, GW_ERR_PROTO, "a group without 'desired' or 'instances'");
    a->min = (uint32_t)min;
    a->max = (uint32_t)max;
    a->desired = (uint32_t)desired;
    cJSON_ArrayForEach(item, list) TRY(add_instance(a, item, ctx));
    return GW_OK;
}

static gw_err_t add_price(struct gw_cloud_answer *a, const cJSON *item, struct gw_err_ctx *ctx)
{
    struct gw_cloud_price price = {.usd_h = -1};
    TRY(gw_json_double(item, "usd_h", 0, USD_H_MAX, &price.usd_h, ctx));
    if (price.usd_h <= 0 || !answer_copy(price.type, sizeof price.type, answer_text(item, "type")) ||
        !answer_copy(price.zone, sizeof price.zone, answer_text(item, "zone")))
        return gw_fail(ctx, GW_ERR_PROTO, "a price that is none");
    gw_err_t err = answer_grow((void **)&a->prices, &a->prices_cap, a->prices_len, GW_CLOUD_PRICES_MAX,
                               sizeof *a->prices);
    if (err != GW_OK) return gw_fail(ctx, err, "too many prices");
    a->prices[a->prices_len++] = price;
    return GW_OK;
}

static gw_err_t read_prices(const cJSON *tree, struct gw_cloud_answer *a, struct gw_err_ctx *ctx)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "prices"), *item;
    if (!cJSON_IsArray(list)) return gw_fail(ctx, GW_ERR_PROTO, "no list of prices");
    cJSON_ArrayForEach(item, list) TRY(add_price(a, item, ctx));
    return GW_OK;
}

static gw_err_t read_tree(const struct gw_cloud_ask *ask, const cJSON *tree, struct gw_cloud_answer *a,
                          struct gw_err_ctx *ctx)
{
    if (!cJSON_IsObject(tree)) return gw_fail(ctx, GW_ERR_PROTO, "not an object");
    if (ask->question == GW_CLOUD_DESCRIBE_GROUP) return read_group(tree, a, ctx);
    return ask->question == GW_CLOUD_SPOT_PRICES ? read_prices(tree, a, ctx) : GW_OK;
}

static enum gw_cloud_verdict sim_read(const struct gw_cloud_ask *ask, int status, const char *body,
                                      size_t body_len, struct gw_cloud_answer *answer, struct gw_err_ctx *ctx)
{
    cJSON *tree = NULL;
    if (status == 404 && ask->question == GW_CLOUD_DELETE_INSTANCE) return GW_CLOUD_OK;
    if (status / 100 != 2) return answer_refused("sim", ask, status, body, body_len, "", ctx);
    answer->next[0] = '\0';
    gw_err_t err = gw_json_parse(body, body_len, GW_CLOUD_BODY_MAX, &tree, ctx);
    if (err == GW_OK) err = read_tree(ask, tree, answer, ctx);
    cJSON_Delete(tree);
    if (err == GW_OK) return GW_CLOUD_OK;
    (void)gw_fail_prefix(ctx, GW_ERR_CLOUD, "sim: %s", gw_cloud_question_name(ask->question));
    return GW_CLOUD_NO;
}

const struct gw_cloud_provider gw_provider_sim = {.name = "sim", .write = sim_write, .read = sim_read};
