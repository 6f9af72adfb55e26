/* Asks a controller's admin listener, or who speaks like one, one request at a time, and waits for the answer.
 *
 * Owner: open/close; *out of a call is the caller's (cJSON_Delete). Thread: main. Units: seconds.
 * Errors: GW_ERR_IO (nobody answers), GW_ERR_INPUT (it said no: the text is its own, or says which flag is missing),
 * GW_ERR_PROTO (an answer that is none); one line each. Source: own design; libevent's HTTP client. */
#ifndef GW_CONTROLLER_CLI_ADMIN_CLIENT_H
#define GW_CONTROLLER_CLI_ADMIN_CLIENT_H

#include "base/json.h"

#define ADMIN_DEFAULT    "127.0.0.1:8001"
#define ADMIN_TIMEOUT_S  5 /* a controller that does not answer for so long is in trouble */
#define ADMIN_ANSWER_MAX (16u << 20)

struct admin_client;

/* What --admin and --admin-token-file say. */
struct admin_options {
    const char *admin; /* HOST:PORT */
    const char *token_file;
    const char
        *hint; /* what is said where nobody answers, or who is no such listener; NULL: that of a controller */
};

gw_err_t admin_open(const struct admin_options *options, struct admin_client **out,
                    struct gw_err_ctx *ctx) GW_MUST_USE;
void admin_close(struct admin_client *client);

/* A body makes it a POST. */
gw_err_t admin_call(struct admin_client *client, const char *path, const char *body, cJSON **out,
                    struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
