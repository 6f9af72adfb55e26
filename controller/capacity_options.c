#include "controller/capacity_options.h"

#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "cloud/backend.h"
#include "cloud/detect.h"
#include "controller/price_file.h"

#define SIZE_MAX_N 1000.0 /* instances of one group: what one controller has links for */
#define TIME_MAX_S 86400.0
#define USD_H_MAX  1e6
#define DMI_DIR    "/sys/class/dmi/id"

void gw_capacity_options_default(struct gw_capacity_options *o)
{
    *o = (struct gw_capacity_options){.cloud = "auto",
                                      .spot_max = 8,
                                      .on_demand_max = 2,
                                      .short_s = 120,
                                      .whole_s = 600,
                                      .cooldown_s = 30,
                                      .shrink_s = 600,
                                      .drain_s = 600,
                                      .read_s = 60,
                                      .settle_s = 10,
                                      .hook_s = 90,
                                      .egress_usd_gb = 0.01};
}

int gw_capacity_options_flags(struct gw_capacity_options *o, struct gw_flag *flags)
{
    const struct gw_flag all[] = {
        {"cloud", GW_FLAG_STRING, &o->cloud, "CLOUD",
         "whose groups and queue these are: aws, gcp, azure, sim, none, or auto (the one that this machine "
         "is in)",
         0, 0},
        {"cloud-region", GW_FLAG_STRING, &o->region, "REGION",
         "aws: its region (default: $AWS_REGION); azure: whose spot prices are asked for", 0, 0},
        {"cloud-endpoint", GW_FLAG_STRING, &o->endpoint, "URL",
         "the cloud's API is there instead (sim: needed)", 0, 0},
        {"cloud-metadata-url", GW_FLAG_STRING, &o->metadata_url, "URL",
         "the metadata service, for credentials, is there instead", 0, 0},
        {"notice-queue", GW_FLAG_STRING, &o->queue_url, "URL",
         "aws: the SQS queue that EventBridge tells of instances that go", 0, 0},
        {"terminate-hook", GW_FLAG_DOUBLE, &o->hook_s, "S",
         "aws: how long the groups' terminate hook waits for an instance to be drained", 1, TIME_MAX_S},
        {"spot-group", GW_FLAG_STRING, &o->spot_group, "NAME",
         "group of spot instances whose size is the controller's to set (needs a --journal); an instance's "
         "id "
         "there is the --instance-id of its worker",
         0, 0},
        {"spot-min", GW_FLAG_INT, &o->spot_min, "N", "its size at least", 0, SIZE_MAX_N},
        {"spot-max", GW_FLAG_INT, &o->spot_max, "N", "its size at most", 0, SIZE_MAX_N},
        {"on-demand-group", GW_FLAG_STRING, &o->on_demand_group, "NAME",
         "group that makes up for spot instances that do not come", 0, 0},
        {"on-demand-min", GW_FLAG_INT, &o->on_demand_min, "N", "its size at least", 0, SIZE_MAX_N},
        {"on-demand-max", GW_FLAG_INT, &o->on_demand_max, "N", "its size at most", 0, SIZE_MAX_N},
        {"capacity-spare", GW_FLAG_INT, &o->spare, "N", "instances beyond what the load needs", 0,
         SIZE_MAX_N},
        {"capacity-short", GW_FLAG_DOUBLE, &o->short_s, "S",
         "spot that stays short for so long is made up on demand", 0, TIME_MAX_S},
        {"capacity-whole", GW_FLAG_DOUBLE, &o->whole_s, "S",
         "spot that was whole for so long carries alone again", 0, TIME_MAX_S},
        {"capacity-cooldown", GW_FLAG_DOUBLE, &o->cooldown_s, "S",
         "a group is left alone so long after a write", 0, TIME_MAX_S},
        {"capacity-shrink", GW_FLAG_DOUBLE, &o->shrink_s, "S",
         "fewer instances are wished for once the load has needed fewer for so long", 0, TIME_MAX_S},
        {"capacity-drain", GW_FLAG_DOUBLE, &o->drain_s, "S",
         "an instance that is not drained by then stays, and another is chosen", 1, TIME_MAX_S},
        {"capacity-read", GW_FLAG_DOUBLE, &o->read_s, "S", "groups are described so often", 1, TIME_MAX_S},
        {"capacity-settle", GW_FLAG_DOUBLE, &o->settle_s, "S",
         "workers have so long to come back to a controller that was started before it decides anything", 0,
         TIME_MAX_S},
        {"capacity-dry-run", GW_FLAG_BOOL, &o->dry_run, NULL,
         "describe the groups and show what would be done, and do nothing", 0, 0},
        {"spot-price", GW_FLAG_DOUBLE, &o->spot_usd_h, "USD",
         "of a spot instance per hour, where the cloud does not tell", 0, USD_H_MAX},
        {"on-demand-price", GW_FLAG_DOUBLE, &o->on_demand_usd_h, "USD", "of one on demand", 0, USD_H_MAX},
        {"egress-usd-gb", GW_FLAG_DOUBLE, &o->egress_usd_gb, "USD",
         "of 10^9 bytes between zones: for plans, and what workers' bytes cost", 0, 1e3},
        {"capacity-prices", GW_FLAG_STRING, &o->prices_file, "FILE",
         "what instances cost by market, type and zone, as JSON (controller/price_file.h), where the cloud "
         "does not tell; "
         "read at each description of a group",
         0, 0}};
    _Static_assert(sizeof all / sizeof all[0] <= GW_CAPACITY_FLAGS, "the table is too short");
    memcpy(flags, all, sizeof all);
    return (int)(sizeof all / sizeof all[0]);
}

static gw_err_t check_cloud(struct gw_capacity_options *o, struct gw_err_ctx *ctx)
{
    bool none = strcmp(o->cloud, "none") == 0;
    if (!none && !gw_cloud_backend_find(o->cloud))
        return gw_fail(ctx, GW_ERR_INPUT, "--cloud %s: expected aws, gcp, azure, sim, none or auto",
                       o->cloud);
    if (none && (o->sizes || o->notices))
        return gw_fail(ctx, GW_ERR_INPUT, "%s needs a --cloud, and this machine is in none",
                       o->sizes ? "--spot-group" : "--notice-queue");
    if (o->notices && strcmp(o->cloud, "aws") != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "--notice-queue: only aws has one");
    if (strcmp(o->cloud, "sim") == 0 && o->sizes && !o->endpoint)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "--cloud sim needs --cloud-endpoint URL (`godwit cloud` plays one)");
    if (strcmp(o->cloud, "aws") == 0 && (o->sizes || o->notices) && !o->region)
        return gw_fail(ctx, GW_ERR_INPUT, "--cloud aws needs --cloud-region REGION, or AWS_REGION");
    return GW_OK;
}

/* One that cannot be read is told before anything depends on it. */
static gw_err_t check_prices(const struct gw_capacity_options *o, struct gw_err_ctx *ctx)
{
    struct gw_price_file file;
    if (!o->prices_file) return GW_OK;
    gw_err_t err = gw_price_file_read(o->prices_file, &file, ctx);
    if (err != GW_OK) return gw_fail_prefix(ctx, err, "--capacity-prices");
    gw_price_file_fini(&file);
    return GW_OK;
}

gw_err_t gw_capacity_options_check(struct gw_capacity_options *o, bool journaled, struct gw_err_ctx *ctx)
{
    o->sizes = o->spot_group != NULL;
    o->notices = o->queue_url != NULL;
    if (strcmp(o->cloud, "auto") == 0) o->cloud = gw_cloud_detect(DMI_DIR);
    if (!o->region) o->region = getenv("AWS_REGION");
    TRY(check_cloud(o, ctx));
    TRY(check_prices(o, ctx));
    if (o->on_demand_group && !o->sizes)
        return gw_fail(ctx, GW_ERR_INPUT, "--on-demand-group needs a --spot-group beside it");
    if (o->spot_min > o->spot_max || o->on_demand_min > o->on_demand_max)
        return gw_fail(ctx, GW_ERR_INPUT, "a group's size at least is above its size at most");
    if (o->sizes && !journaled && !o->dry_run)
        return gw_fail(
            ctx, GW_ERR_INPUT,
            "--spot-group needs a --journal: it says which controller may write, and keeps what was "
            "about to be done (--capacity-dry-run writes nothing)");
    return GW_OK;
}
