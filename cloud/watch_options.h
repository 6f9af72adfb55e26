/* Options of godwit-watch: flags, their defaults, and what must hold between them.
 *
 * Owner: strings live until exit. Thread: start-up. Units: last word of the name. Errors: GW_ERR_INPUT with a text that
 * says what to do. Source: own design. */
#ifndef GW_CLOUD_WATCH_OPTIONS_H
#define GW_CLOUD_WATCH_OPTIONS_H

#include "base/log.h"
#include "cloud/report.h"
#include "cloud/source.h"

#define GW_WATCH_URLS_BYTES 1024

struct gw_watch_options {
    const char *cloud, *controller, *admin_token_file, *instance_id, *metadata_url, *log_level_name;
    double gcp_notice_s, aws_hook_s, blind_s;
    bool insecure_plaintext;
    /* what these say, parsed */
    const struct gw_source_ops *source; /* NULL: no cloud to watch */
    char urls_text[GW_WATCH_URLS_BYTES];
    const char *urls[GW_REPORT_URLS_MAX];
    enum gw_log_level log_level;
};

/* *help: the text was printed, nothing else is set. On error *out is unchanged. out->urls point into *out. */
gw_err_t gw_watch_options_parse(int argc, char **argv, struct gw_watch_options *out, bool *help,
                                struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
