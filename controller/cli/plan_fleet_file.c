#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller/cli/plan_files.h"
#include "controller/cli/plan_json_in.h"

#define GB 1e9

struct reader {
    struct gw_plan_fleet *fleet;
    uint32_t instances_cap, devices_cap;
    struct gw_err_ctx *ctx;
};

/* The place of `name` in a table of names, which grows up to `max`. */
static gw_err_t name_index(char (*names)[GW_PLAN_NAME_MAX], uint32_t *len, uint32_t max, const char *name,
                           uint32_t *out, struct gw_err_ctx *ctx)
{
    uint32_t i = 0;
    while (i < *len && strcmp(names[i], name) != 0) i++;
    if (i == max) return gw_fail(ctx, GW_ERR_LIMIT, "more than %u different names", max);
    if (i == *len) memcpy(names[(*len)++], name, strlen(name) + 1);
    *out = i;
    return GW_OK;
}

static gw_err_t read_type(struct reader *r, const cJSON *t)
{
    static const char *const known[] = {
        "profile", "memory_gb", "bandwidth_gb_s", "tflop_s", "decode_factor", "prefill_factor", "price_usd_h",
        "devices", "intra",     "inter",          NULL};
    struct gw_plan_fleet *f = r->fleet;
    if (f->types_len == GW_PLAN_TYPES_MAX)
        return gw_fail(r->ctx, GW_ERR_LIMIT, "more than %d types", GW_PLAN_TYPES_MAX);
    struct gw_plan_type *type = &f->types[f->types_len];
    char profile[GW_PLAN_NAME_MAX] = "default";
    double memory = 0, bandwidth = 0, tflop = 0;
    int64_t devices = 1;
    *type = (struct gw_plan_type){
        .decode_factor = 1, .prefill_factor = 1, .intra = {25 * GB, 10e-6}, .inter = {2.5 * GB, 50e-6}};
    if (strlen(t->string) >= GW_PLAN_NAME_MAX || !*t->string)
        return gw_fail(r->ctx, GW_ERR_INPUT, "the name is too long");
    memcpy(type->name, t->string, strlen(t->string) + 1);
    TRY(plan_json_fields(t, "it", known, r->ctx));
    TRY(plan_json_name(t, "profile", profile, r->ctx));
    TRY(plan_json_need(t, "memory_gb", 1e-6, 1e6, &memory, r->ctx));
    TRY(plan_json_need(t, "bandwidth_gb_s", 1e-6, 1e9, &bandwidth, r->ctx));
    TRY(plan_json_need(t, "tflop_s", 1e-9, 1e6, &tflop, r->ctx));
    TRY(gw_json_double(t, "decode_factor", 1e-3, 1e3, &type->decode_factor, r->ctx));
    TRY(gw_json_double(t, "prefill_factor", 1e-3, 1e3, &type->prefill_factor, r->ctx));
    TRY(gw_json_double(t, "price_usd_h", 0, 1e6, &type->price_usd_h, r->ctx));
    TRY(gw_json_int(t, "devices", 1, 64, &devices, r->ctx));
    TRY(plan_json_link(t, "intra", &type->intra, r->ctx));
    TRY(plan_json_link(t, "inter", &type->inter, r->ctx));
    TRY(name_index(f->profiles, &f->profiles_len, GW_PLAN_TYPES_MAX, profile, &type->profile, r->ctx));
    type->instance_devices = (uint32_t)devices;
    type->memory_bytes = (uint64_t)(memory * GB);
    type->bytes_s = bandwidth * GB;
    type->flop_s = tflop * 1e12;
    f->types_len++;
    return GW_OK;
}

static gw_err_t read_types(struct reader *r, const cJSON *types)
{
    const cJSON *t;
    if (!cJSON_IsObject(types))
        return gw_fail(r->ctx, GW_ERR_INPUT, "'types' must be an object of device types");
    cJSON_ArrayForEach(t, types)
    {
        gw_err_t err = read_type(r, t);
        if (err != GW_OK) return gw_fail_prefix(r->ctx, err, "type '%.40s'", t->string);
    }
    return GW_OK;
}

static gw_err_t find_type(struct reader *r, const cJSON *in, uint32_t *out)
{
    const char *name = NULL;
    TRY(gw_json_string(in, "type", &name, r->ctx));
    if (!name) return gw_fail(r->ctx, GW_ERR_INPUT, "'type' is missing");
    for (uint32_t i = 0; i < r->fleet->types_len; i++)
        if (strcmp(r->fleet->types[i].name, name) == 0) {
            *out = i;
            return GW_OK;
        }
    return gw_fail(r->ctx, GW_ERR_INPUT, "no type is named '%.40s'", name);
}

/* Makes room for len items, at most GW_PLAN_DEVICES_MAX. */
static gw_err_t grow(void **items, uint32_t *cap, uint32_t len, size_t size, struct gw_err_ctx *ctx)
{
    if (len <= *cap) return GW_OK;
    uint32_t next = *cap ? *cap : 64;
    while (next < len) next *= 2;
    void *grown = realloc(*items, next * size);
    if (!grown) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    *items = grown;
    *cap = next;
    return GW_OK;
}

/* Adds `count` instances like `in` with devices of one type. */
static gw_err_t add_instances(struct reader *r, const struct gw_plan_instance *in, uint32_t type,
                              int64_t count, bool numbered)
{
    struct gw_plan_fleet *f = r->fleet;
    if (f->devices_len + (uint64_t)count * in->devices > GW_PLAN_DEVICES_MAX)
        return gw_fail(r->ctx, GW_ERR_LIMIT, "more than %d devices in all", GW_PLAN_DEVICES_MAX);
    TRY(grow((void **)&f->instances, &r->instances_cap, f->instances_len + (uint32_t)count,
             sizeof *f->instances, r->ctx));
    TRY(grow((void **)&f->devices, &r->devices_cap, f->devices_len + (uint32_t)count * in->devices,
             sizeof *f->devices, r->ctx));
    for (int64_t i = 0; i < count; i++) {
        struct gw_plan_instance *to = &f->instances[f->instances_len];
        *to = *in;
        to->first_device = f->devices_len;
        if (numbered &&
            snprintf(to->id, sizeof to->id, "%s-%lld", in->id, (long long)i) >= (int)sizeof to->id)
            return gw_fail(r->ctx, GW_ERR_INPUT, "'id' is too long for %lld numbers", (long long)count);
        for (uint32_t d = 0; d < in->devices; d++)
            f->devices[f->devices_len++] = (struct gw_plan_device){
                .instance = f->instances_len, .index = d, .type = type, .pipeline = GW_PLAN_NONE};
        f->instances_len++;
    }
    return GW_OK;
}

static gw_err_t read_instance(struct reader *r, const cJSON *j)
{
    static const char *const known[] = {"id",    "type",        "devices",     "zone",
                                        "count", "price_usd_h", "doomed_at_s", "on_demand",
                                        "intra", "inter",       NULL};
    struct gw_plan_instance in = {0};
    char zone[GW_PLAN_NAME_MAX] = "default";
    int64_t devices, count = 1;
    uint32_t type = 0;
    TRY(plan_json_fields(j, "it", known, r->ctx));
    TRY(plan_json_name(j, "id", in.id, r->ctx));
    if (!in.id[0]) return gw_fail(r->ctx, GW_ERR_INPUT, "'id' is missing");
    TRY(find_type(r, j, &type));
    const struct gw_plan_type *t = &r->fleet->types[type];
    devices = t->instance_devices;
    TRY(gw_json_int(j, "devices", 1, 64, &devices, r->ctx));
    TRY(gw_json_int(j, "count", 1, GW_PLAN_DEVICES_MAX, &count, r->ctx));
    TRY(plan_json_name(j, "zone", zone, r->ctx));
    in.devices = (uint32_t)devices;
    in.price_usd_h = (double)devices * t->price_usd_h;
    in.intra = t->intra;
    in.inter = t->inter;
    TRY(gw_json_double(j, "price_usd_h", 0, 1e6, &in.price_usd_h, r->ctx));
    TRY(gw_json_double(j, "doomed_at_s", 0, 1e9, &in.doomed_at_s, r->ctx));
    TRY(gw_json_bool(j, "on_demand", &in.on_demand, r->ctx));
    TRY(plan_json_link(j, "intra", &in.intra, r->ctx));
    TRY(plan_json_link(j, "inter", &in.inter, r->ctx));
    TRY(name_index(r->fleet->zones, &r->fleet->zones_len, GW_PLAN_ZONES_MAX, zone, &in.zone, r->ctx));
    return add_instances(r, &in, type, count, count > 1);
}

static int by_id(const void *a, const void *b, void *arg)
{
    const struct gw_plan_instance *in = arg;
    return strcmp(in[*(const uint32_t *)a].id, in[*(const uint32_t *)b].id);
}

static gw_err_t check_ids(struct reader *r)
{
    const struct gw_plan_fleet *f = r->fleet;
    gw_err_t err = GW_OK;
    uint32_t *order = malloc((f->instances_len + 1) * sizeof *order);
    if (!order) return gw_fail(r->ctx, GW_ERR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < f->instances_len; i++) order[i] = i;
    qsort_r(order, f->instances_len, sizeof *order, by_id, f->instances);
    for (uint32_t i = 1; i < f->instances_len && err == GW_OK; i++)
        if (strcmp(f->instances[order[i]].id, f->instances[order[i - 1]].id) == 0)
            err = gw_fail(r->ctx, GW_ERR_INPUT, "two instances have the id '%s'", f->instances[order[i]].id);
    free(order);
    return err;
}

static gw_err_t read_instances(struct reader *r, const cJSON *list)
{
    const cJSON *j;
    uint32_t at = 0;
    if (!cJSON_IsArray(list)) return gw_fail(r->ctx, GW_ERR_INPUT, "'instances' must be a list");
    cJSON_ArrayForEach(j, list)
    {
        gw_err_t err = read_instance(r, j);
        if (err != GW_OK) return gw_fail_prefix(r->ctx, err, "instance %u", at);
        at++;
    }
    return check_ids(r);
}

static gw_err_t read_preemptions(const cJSON *fleet, struct gw_preemptions *out, struct gw_err_ctx *ctx)
{
    static const char *const known[] = {"per_instance_h", "replace_s", NULL};
    const cJSON *p = cJSON_GetObjectItemCaseSensitive(fleet, "preemptions");
    if (!p || cJSON_IsNull(p)) return GW_OK;
    TRY(plan_json_fields(p, "preemptions", known, ctx));
    TRY(gw_json_double(p, "per_instance_h", 0, 1e6, &out->per_instance_h, ctx));
    return gw_json_double(p, "replace_s", 0, 1e6, &out->replace_s, ctx);
}

static gw_err_t read_fleet(struct reader *r, const cJSON *j, struct gw_planner_options *options)
{
    static const char *const known[] = {"types",      "instances",   "zone_link", "zone_usd_gb",
                                        "store_gb_s", "preemptions", NULL};
    struct gw_plan_fleet *f = r->fleet;
    double store = 1;
    f->zone_link = (struct gw_plan_link){1 * GB, 1e-3};
    TRY(plan_json_fields(j, "the fleet", known, r->ctx));
    TRY(read_types(r, cJSON_GetObjectItemCaseSensitive(j, "types")));
    TRY(read_instances(r, cJSON_GetObjectItemCaseSensitive(j, "instances")));
    TRY(plan_json_link(j, "zone_link", &f->zone_link, r->ctx));
    TRY(gw_json_double(j, "zone_usd_gb", 0, 1e6, &f->zone_usd_gb, r->ctx));
    TRY(gw_json_double(j, "store_gb_s", 1e-6, 1e9, &store, r->ctx));
    f->store_bytes_s = store * GB;
    return read_preemptions(j, &options->preemptions, r->ctx);
}

gw_err_t gw_plan_fleet_from_json(const cJSON *json, struct gw_plan_files *files, struct gw_err_ctx *ctx)
{
    struct gw_plan_fleet *f = &files->fleet;
    struct reader r = {.fleet = f, .ctx = ctx};
    f->types = calloc(GW_PLAN_TYPES_MAX, sizeof *f->types);
    f->zones = calloc(GW_PLAN_ZONES_MAX, sizeof *f->zones);
    f->profiles = calloc(GW_PLAN_TYPES_MAX, sizeof *f->profiles);
    if (!f->types || !f->zones || !f->profiles) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    return read_fleet(&r, json, &files->options);
}

gw_err_t gw_plan_fleet_read(const char *path, struct gw_plan_files *files, struct gw_err_ctx *ctx)
{
    cJSON *json = NULL;
    TRY(gw_json_parse_file(path, GW_PLAN_FILE_BYTES_MAX, &json, ctx));
    gw_err_t err = gw_plan_fleet_from_json(json, files, ctx);
    cJSON_Delete(json);
    return err == GW_OK ? GW_OK : gw_fail_prefix(ctx, err, "%s", path);
}

void gw_plan_files_fini(struct gw_plan_files *files)
{
    free(files->fleet.types);
    free(files->fleet.instances);
    free(files->fleet.devices);
    free(files->fleet.zones);
    free(files->fleet.profiles);
    files->fleet = (struct gw_plan_fleet){0};
}
