#include "controller/cli/status_cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/args.h"
#include "controller/cli/cluster_picture.h"
#include "controller/cli/terminal.h"

#define OUTPUT_MAX (64u << 20)

struct status_options {
    struct admin_options admin;
    bool json, ascii;
};

static gw_err_t parse(int argc, char **argv, struct status_options *o, bool *help, struct gw_err_ctx *ctx)
{
    const struct gw_flag flags[] = {
        {"admin", GW_FLAG_STRING, &o->admin.admin, "HOST:PORT", "the controller's admin listener", 0, 0},
        {"admin-token-file", GW_FLAG_STRING, &o->admin.token_file, "FILE", "its bearer token", 0, 0},
        {"json", GW_FLAG_BOOL, &o->json, NULL,
         "print what the controller says as JSON: layout, workers, stats", 0, 0},
        {"ascii", GW_FLAG_BOOL, &o->ascii, NULL, "draw with + - | # (so does a locale that is not UTF-8)", 0,
         0},
        {0}};
    TRY(gw_args_parse(argc, argv, flags, NULL, 0, NULL, help, ctx));
    if (*help)
        gw_args_help(
            "godwit status [flags]",
            "Shows the cluster in one picture: what it does, its pipelines as grids of cells (layer groups\n"
            "down, shares across, one box per rank), its workers. Exit status: 0, or 1 when the controller\n"
            "does not answer.",
            flags);
    return GW_OK;
}

static void put_json(const struct cluster_answers *a, struct gw_buf *b)
{
    const struct {
        const char *name;
        const cJSON *tree;
    } parts[] = {{"{\"layout\":", a->layout}, {",\"workers\":", a->workers}, {",\"stats\":", a->stats}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char *text = cJSON_PrintUnformatted(parts[i].tree);
        gw_buf_puts(b, parts[i].name);
        gw_buf_puts(b, text ? text : "null");
        cJSON_free(text);
    }
    gw_buf_puts(b, "}\n");
}

static gw_err_t put_picture(const struct cluster_answers *a, bool ascii, struct gw_buf *b,
                            struct gw_err_ctx *ctx)
{
    struct cluster_view view;
    struct canvas c;
    const struct cluster_rates rates = {0};
    bool tty = isatty(STDOUT_FILENO);
    const struct canvas_print how = {.utf8 = !ascii && terminal_is_utf8(), .colours = tty, .line_end = "\n"};
    TRY(cluster_view_read(a, &view, ctx));
    canvas_init(&c, terminal_size(STDOUT_FILENO).columns);
    uint32_t y = cluster_picture_head(&c, 0, &view, &rates);
    y = cluster_picture_pipelines(&c, y + 1, 0, &view);
    cluster_picture_workers(&c, y + (view.pipelines_len == 0), 0, &view);
    canvas_put(&c, &how, b);
    gw_err_t err = c.err;
    canvas_fini(&c);
    cluster_view_fini(&view);
    return err;
}

static gw_err_t status(const struct status_options *o, struct gw_err_ctx *ctx)
{
    struct admin_client *client;
    struct cluster_answers answers = {0};
    struct gw_buf b;
    TRY(admin_open(&o->admin, &client, ctx));
    gw_buf_init(&b, OUTPUT_MAX);
    gw_err_t err = cluster_ask(client, &answers, ctx);
    if (err == GW_OK && o->json)
        put_json(&answers, &b);
    else if (err == GW_OK)
        err = put_picture(&answers, o->ascii, &b, ctx);
    if (err == GW_OK && b.err != GW_OK) err = b.err;
    if (err == GW_OK && (fwrite(b.data, 1, b.len, stdout) != b.len || fflush(stdout) != 0))
        err = gw_fail(ctx, GW_ERR_IO, "standard output cannot be written");
    gw_buf_fini(&b);
    cluster_answers_fini(&answers);
    admin_close(client);
    return err == GW_OK ? GW_OK : gw_fail(ctx, err, "out of memory");
}

int gw_status_main(int argc, char **argv)
{
    struct gw_err_ctx ctx = {0};
    struct status_options o = {.admin.admin = ADMIN_DEFAULT};
    bool help = false;
    gw_err_t err = parse(argc, argv, &o, &help, &ctx);
    if (err == GW_OK && !help) err = status(&o, &ctx);
    if (err == GW_OK) return 0;
    fprintf(stderr, "godwit status: %s\n", ctx.text);
    return 1;
}
