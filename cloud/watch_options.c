#include "cloud/watch_options.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/args.h"
#include "base/sockaddr.h"
#include "cloud/detect.h"

#define DMI_DIR        "/sys/class/dmi/id"
#define HOST_MAX_BYTES 256

static const struct gw_watch_options defaults = {
    .cloud = "auto",
    .controller = "http://127.0.0.1:8001",
    .log_level_name = "info",
    .gcp_notice_s = 30,
    .aws_hook_s = 90,
    .blind_s = 60,
};

#define INTRO                                                                                                \
    "Listens for the end of this machine's spot instance and tells the controller, until it is stopped.\n"   \
    "One per instance; start it before the workers and stop it after them.\n"                                \
    "Exit status: 0 ended as asked, or no cloud to watch; 1 wrong flags or files."

static gw_err_t parse_flags(int argc, char **argv, struct gw_watch_options *o, bool *help,
                            struct gw_err_ctx *ctx)
{
    const struct gw_flag flags[] = {
        {"cloud", GW_FLAG_STRING, &o->cloud, "NAME",
         "aws, gcp, azure, sim, none, or auto: by the firmware's tables", 0, 0},
        {"controller", GW_FLAG_STRING, &o->controller, "URL[,URL]",
         "admin listeners of the controllers; at most 4, tried in turn", 0, 0},
        {"admin-token-file", GW_FLAG_STRING, &o->admin_token_file, "FILE", "the controllers' admin token", 0,
         0},
        {"insecure-plaintext", GW_FLAG_BOOL, &o->insecure_plaintext, NULL,
         "allow http:// to a controller off loopback (the token travels readable)", 0, 0},
        {"instance-id", GW_FLAG_STRING, &o->instance_id, "ID",
         "what the workers say as --instance-id (default: ask the cloud)", 0, 0},
        {"metadata-url", GW_FLAG_STRING, &o->metadata_url, "URL",
         "of the metadata service (default: the cloud's own); sim: a scenario file, or http://", 0, 0},
        {"gcp-notice-s", GW_FLAG_DOUBLE, &o->gcp_notice_s, "S", "the group's preemption notice duration", 5,
         600},
        {"aws-hook-s", GW_FLAG_DOUBLE, &o->aws_hook_s, "S", "how long the group's terminate hook waits", 5,
         7200},
        {"blind-s", GW_FLAG_DOUBLE, &o->blind_s, "S",
         "the controller is told of a metadata service that has not answered for so long", 1, 3600},
        {"log-level", GW_FLAG_STRING, &o->log_level_name, "LEVEL", "debug, info, warn, error or none", 0, 0},
        {0}};
    TRY(gw_args_parse(argc, argv, flags, NULL, 0, NULL, help, ctx));
    if (*help) gw_args_help("godwit-watch [flags]", INTRO, flags);
    return GW_OK;
}

static gw_err_t parse_cloud(struct gw_watch_options *o, struct gw_err_ctx *ctx)
{
    const char *name = strcmp(o->cloud, "auto") == 0 ? gw_cloud_detect(DMI_DIR) : o->cloud;
    o->source = gw_source_find(name);
    if (!o->source && strcmp(name, "none") != 0)
        return gw_fail(ctx, GW_ERR_INPUT, "--cloud %s: expected aws, gcp, azure, sim, none or auto",
                       o->cloud);
    o->cloud = name;
    if (o->source == &gw_source_sim && (!o->metadata_url || !o->instance_id))
        return gw_fail(ctx, GW_ERR_INPUT, "--cloud sim needs --metadata-url FILE or URL, and --instance-id");
    return GW_OK;
}

static gw_err_t check_plaintext(const struct gw_watch_options *o, const char *url, struct gw_err_ctx *ctx)
{
    char host[HOST_MAX_BYTES];
    const char *at = url + strlen("http://");
    size_t len = at[0] == '[' ? strcspn(at + 1, "]") : strcspn(at, ":/");
    if (at[0] == '[') at++;
    if (len >= sizeof host) return gw_fail(ctx, GW_ERR_INPUT, "--controller: a name of %zu bytes", len);
    memcpy(host, at, len);
    host[len] = '\0';
    struct sockaddr_storage addr;
    socklen_t addr_len;
    bool loopback =
        gw_sockaddr_parse(host, 0, &addr, &addr_len, NULL) == GW_OK && gw_sockaddr_is_loopback(&addr);
    if (loopback || o->insecure_plaintext) return GW_OK;
    return gw_fail(
        ctx, GW_ERR_INPUT,
        "--controller %s is off loopback and not https: say --insecure-plaintext on a network that you trust",
        url);
}

static gw_err_t check_url(const struct gw_watch_options *o, const char *url, struct gw_err_ctx *ctx)
{
    for (const char *c = url; *c; c++)
        if (!isgraph((unsigned char)*c)) return gw_fail(ctx, GW_ERR_INPUT, "--controller: a URL with spaces");
    if (strncmp(url, "https://", 8) == 0) return GW_OK;
    if (strncmp(url, "http://", 7) == 0) return check_plaintext(o, url, ctx);
    return gw_fail(ctx, GW_ERR_INPUT, "--controller %s: expected http://HOST:PORT or https://HOST", url);
}

/* Cuts urls_text at its commas. */
static gw_err_t parse_urls(struct gw_watch_options *o, struct gw_err_ctx *ctx)
{
    size_t len = 0;
    if (strlen(o->controller) >= sizeof o->urls_text)
        return gw_fail(ctx, GW_ERR_INPUT, "--controller: at most %zu bytes", sizeof o->urls_text - 1);
    snprintf(o->urls_text, sizeof o->urls_text, "%s", o->controller);
    for (char *at = o->urls_text; at;) {
        char *comma = strchr(at, ',');
        if (comma) *comma = '\0';
        if (len == GW_REPORT_URLS_MAX)
            return gw_fail(ctx, GW_ERR_INPUT, "--controller: at most %d are tried", GW_REPORT_URLS_MAX);
        TRY(check_url(o, at, ctx));
        o->urls[len++] = at;
        at = comma ? comma + 1 : NULL;
    }
    return GW_OK;
}

static gw_err_t check_instance(const struct gw_watch_options *o, struct gw_err_ctx *ctx)
{
    size_t len = o->instance_id ? strlen(o->instance_id) : 1;
    bool ok = len >= 1 && len < GW_CLOUD_INSTANCE_MAX;
    for (size_t i = 0; o->instance_id && ok && i < len; i++)
        ok = isalnum((unsigned char)o->instance_id[i]) || strchr("._:-", o->instance_id[i]);
    if (ok) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "--instance-id: expected 1 to %d letters, digits, '.', '_', ':', '-'",
                   GW_CLOUD_INSTANCE_MAX - 1);
}

gw_err_t gw_watch_options_parse(int argc, char **argv, struct gw_watch_options *out, bool *help,
                                struct gw_err_ctx *ctx)
{
    struct gw_watch_options o = defaults;
    TRY(parse_flags(argc, argv, &o, help, ctx));
    if (*help) return GW_OK;
    int level = gw_log_level_parse(o.log_level_name);
    if (level < 0)
        return gw_fail(ctx, GW_ERR_INPUT, "--log-level %s: expected debug, info, warn, error or none",
                       o.log_level_name);
    o.log_level = (enum gw_log_level)level;
    TRY(parse_cloud(&o, ctx));
    TRY(check_instance(&o, ctx));
    TRY(parse_urls(&o, ctx));
    *out = o;
    return parse_urls(out, ctx); /* so that urls point into *out */
}
