#include "controller/cli/plan_cmd.h"

#include <stdio.h>

#include "base/args.h"
#include "controller/cli/plan_report.h"

#define REPORT_BYTES_MAX (256u << 20) /* 65,536 devices with all their steps take 100 MB of JSON */
#define EXIT_NO_FIT      2

struct plan_options {
    const char *fleet, *model, *weights, *kv, *load, *current;
    int64_t budget;
    bool json, no_losses;
};

static const char intro[] =
    "Says what the planner would do with a fleet, a model and a load. Nothing is touched.\n"
    "\n"
    "FILE of --fleet (GB = 10^9 bytes; everything but types, memory_gb, bandwidth_gb_s, tflop_s, id and type "
    "has a default):\n"
    "  {\"types\": {\"h100\": {\"profile\": \"cuda-sm90-exact-1\", \"memory_gb\": 75, \"bandwidth_gb_s\": "
    "3000, \"tflop_s\": 700,\n"
    "                      \"decode_factor\": 1, \"prefill_factor\": 1, \"price_usd_h\": 2.5, \"devices\": "
    "4,\n"
    "                      \"intra\": {\"gb_s\": 300, \"latency_us\": 8}, \"inter\": {\"gb_s\": 12, "
    "\"latency_us\": 50}}},\n"
    "   \"instances\": [{\"id\": \"i-a\", \"count\": 4, \"type\": \"h100\", \"devices\": 4, \"zone\": "
    "\"us-east1-b\",\n"
    "                  \"price_usd_h\": 10, \"on_demand\": false, \"doomed_at_s\": 0}],\n"
    "   \"zone_link\": {\"gb_s\": 1, \"latency_us\": 1000}, \"zone_usd_gb\": 0.01, \"store_gb_s\": 1,\n"
    "   \"preemptions\": {\"per_instance_h\": 0.05, \"replace_s\": 180}}\n"
    "FILE of --load:\n"
    "  {\"arrival_rps\": 5, \"prompt\": {\"mean\": 500, \"p99\": 2000}, \"output\": {\"mean\": 200, \"p99\": "
    "600},\n"
    "   \"slo\": {\"ttft_s\": 2, \"tpot_s\": 0.05}, \"concurrency\": 0, \"horizon_s\": 600}\n"
    "FILE of --current (\"layout\" of --json has this form):\n"
    "  {\"ranks\": [{\"instance\": \"i-a-0\", \"device\": 0, \"pipeline\": 0, \"groups\": [0, 20], "
    "\"shares\": [0, 2],\n"
    "              \"kv_bytes_per_cell\": 1e8}]}\n"
    "\n"
    "Exit status: 0, 1 on wrong files, 2 when the model fits nowhere.";

static gw_err_t parse(int argc, char **argv, struct plan_options *o, bool *help, struct gw_err_ctx *ctx)
{
    const struct gw_flag flags[] = {
        {"fleet", GW_FLAG_STRING, &o->fleet, "FILE", "devices, their links, zones and prices", 0, 0},
        {"model", GW_FLAG_STRING, &o->model, "DIR",
         "model directory in Hugging Face form (config.json is read)", 0, 0},
        {"weights", GW_FLAG_STRING, &o->weights, "FORMAT", "file: as the model's files have them; int8, fp8",
         0, 0},
        {"kv", GW_FLAG_STRING, &o->kv, "FORMAT", "file: of the same type; int8", 0, 0},
        {"load", GW_FLAG_STRING, &o->load, "FILE", "arrivals, lengths, what is promised", 0, 0},
        {"current", GW_FLAG_STRING, &o->current, "FILE", "what the fleet serves now", 0, 0},
        {"budget", GW_FLAG_INT, &o->budget, "N",
         "candidates to evaluate at most, 0 = by the size of the fleet", 0, 1e9},
        {"json", GW_FLAG_BOOL, &o->json, NULL, "print JSON with every step of the move", 0, 0},
        {"no-losses", GW_FLAG_BOOL, &o->no_losses, NULL, "do not try the loss of each instance", 0, 0},
        {0}};
    TRY(gw_args_parse(argc, argv, flags, NULL, 0, NULL, help, ctx));
    if (*help) {
        gw_args_help("godwit plan --fleet FILE --model DIR --load FILE [flags]", intro, flags);
        return GW_OK;
    }
    if (!o->fleet || !o->model || !o->load)
        return gw_fail(ctx, GW_ERR_INPUT,
                       "--fleet FILE, --model DIR and --load FILE are needed (--help shows their form)");
    return GW_OK;
}

static gw_err_t read_files(const struct plan_options *o, struct gw_plan_files *files, struct gw_err_ctx *ctx)
{
    TRY(gw_plan_fleet_read(o->fleet, files, ctx));
    enum gw_weight_format weights;
    enum gw_kv_format kv;
    TRY(gw_weight_format_parse(o->weights, &weights, ctx));
    TRY(gw_kv_format_parse(o->kv, &kv, ctx));
    TRY(gw_plan_model_read(o->model, weights, kv, &files->model, ctx));
    TRY(gw_plan_load_read(o->load, files, ctx));
    if (o->current) TRY(gw_plan_current_read(o->current, files, ctx));
    files->options.budget = (uint64_t)o->budget;
    return GW_OK;
}

static gw_err_t print_report(const struct plan_report *report, bool json, struct gw_err_ctx *ctx)
{
    struct gw_buf b;
    gw_buf_init(&b, REPORT_BYTES_MAX);
    if (json)
        plan_report_json(report, &b);
    else
        plan_report_text(report, &b);
    gw_err_t err = b.err;
    if (err != GW_OK) gw_fail(ctx, err, "the report is too long");
    if (err == GW_OK && (fwrite(b.data, 1, b.len, stdout) != b.len || fflush(stdout) != 0))
        err = gw_fail(ctx, GW_ERR_IO, "standard output cannot be written");
    gw_buf_fini(&b);
    return err;
}

static gw_err_t plan(const struct plan_options *o, struct gw_plan_files *files, struct plan_report *report,
                     struct gw_err_ctx *ctx)
{
    TRY(read_files(o, files, ctx));
    struct gw_plan_input in = {&files->fleet, &files->model, &files->load};
    TRY(gw_planner_run(&in, &files->options, &report->plan, ctx));
    if (!o->no_losses && report->plan.verdict != GW_VERDICT_NO_FIT) TRY(plan_report_losses(report, ctx));
    return print_report(report, o->json, ctx);
}

int gw_plan_main(int argc, char **argv)
{
    struct gw_err_ctx ctx = {0};
    struct plan_options o = {.weights = "file", .kv = "file"};
    struct gw_plan_files files = {0};
    struct plan_report report = {.files = &files};
    bool help = false;
    int status = 0;
    gw_err_t err = parse(argc, argv, &o, &help, &ctx);
    if (err == GW_OK && !help) {
        err = plan(&o, &files, &report, &ctx);
        status = report.plan.verdict == GW_VERDICT_NO_FIT ? EXIT_NO_FIT : 0;
    }
    plan_report_fini(&report);
    gw_plan_files_fini(&files);
    if (err == GW_OK) return status;
    fprintf(stderr, "godwit plan: %s\n", ctx.text);
    return 1;
}
