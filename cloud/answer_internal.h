/* What the providers share: filling answers in, and errors of Google's and Azure's form. */
#ifndef GW_CLOUD_ANSWER_INTERNAL_H
#define GW_CLOUD_ANSWER_INTERNAL_H

#include "base/json.h"
#include "cloud/cloud.h"

#define ANSWER_PATH_MAX 4096

/* GW_ERR_PROTO: without an id; GW_ERR_LIMIT: GW_CLOUD_INSTANCES_MAX. */
gw_err_t answer_add_instance(struct gw_cloud_answer *a, const struct gw_cloud_instance *in);

/* Room for one more item: *items may move. */
gw_err_t answer_grow(void **items, size_t *cap, size_t len, size_t max, size_t item_bytes);

/* True if it fits; a text that does not is no id of ours. */
bool answer_copy(char *to, size_t size, const char *text);

/* The string field, "" when there is none. */
const char *answer_text(const cJSON *tree, const char *field);

/* {"error": {"code": …, "message": "…"}}: verdict by status, and the text. fix: for 401 and 403. */
enum gw_cloud_verdict answer_refused(const char *provider, const struct gw_cloud_ask *ask, int status,
                                     const char *body, size_t body_len, const char *fix,
                                     struct gw_err_ctx *ctx);

/* Headers and limits of a JSON request; credentials without a token: nobody's; path (its sticky error tells) is appended to place->endpoint, or to base. */
gw_err_t answer_request(const char *base, const char *method, struct gw_buf *path,
                        const struct gw_cloud_place *place, const struct gw_cloud_credentials *credentials,
                        struct gw_cloud_http *out, struct gw_err_ctx *ctx);

/* Appends text with all but RFC 3986's unreserved characters escaped. */
void answer_put_escaped(struct gw_buf *b, const char *text);

/* Is text a path of names that may stand in a URL as it is? */
bool answer_path_ok(const char *text);

#endif
