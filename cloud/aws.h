/* AWS's half of the provider table: its requests (aws_write.c) and its answers (aws_read.c).
 *
 * Owner: as cloud.h says. Thread: any. Errors: as cloud.h says. Source: the services' API references, named in each
 * file. */
#ifndef GW_CLOUD_AWS_H
#define GW_CLOUD_AWS_H

#include "cloud/cloud.h"
#include "cloud/times.h"

gw_err_t gw_aws_write(const struct gw_cloud_place *place, const struct gw_cloud_ask *ask, const char *page,
                      const struct gw_cloud_credentials *credentials, struct gw_cloud_http *out,
                      struct gw_err_ctx *ctx) GW_MUST_USE;

enum gw_cloud_verdict gw_aws_read(const struct gw_cloud_ask *ask, int status, const char *body,
                                  size_t body_len, struct gw_cloud_answer *answer, struct gw_err_ctx *ctx);

#endif
