/* AWS: the requests. All are POST / with a body, the one shape that libcurl 7.88 signs right: sorted queries, colons in
 * paths and removed headers it does not.
 *
 *     autoscaling, ec2   query protocol: form fields, answers in XML
 *     sqs                JSON 1.0, the operation in X-Amz-Target
 *
 * Source: the services' API references (autoscaling 2011-01-01, ec2 2016-11-15, sqs 2012-11-05). */
#include "cloud/aws.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "cloud/answer_internal.h"

#define TIMEOUT_US   (20 * GW_US_PER_S)
#define WAIT_S_MAX   20 /* of SQS's long polls */
#define VISIBILITY_S 30 /* a message that was not forgotten comes again after this */
#define PRODUCT      "Linux/UNIX"

static void put(struct gw_buf *b, const char *name, const char *value)
{
    if (b->len) gw_buf_u8(b, '&');
    gw_buf_puts(b, name);
    gw_buf_u8(b, '=');
    answer_put_escaped(b, value);
}

static void put_number(struct gw_buf *b, const char *name, uint32_t value)
{
    char text[16];
    snprintf(text, sizeof text, "%u", value);
    put(b, name, text);
}

static void begin_form(struct gw_buf *b, const char *action, const char *version)
{
    put(b, "Action", action);
    put(b, "Version", version);
}

/* ---- autoscaling --------------------------------------------------------------------------------------- */

#define AUTOSCALING "2011-01-01"
#define EC2         "2016-11-15"

static void write_describe_group(struct gw_buf *b, const struct gw_cloud_ask *ask, const char *page)
{
    begin_form(b, "DescribeAutoScalingGroups", AUTOSCALING);
    put(b, "AutoScalingGroupNames.member.1", ask->group);
    if (page[0]) put(b, "NextToken", page);
}

static void write_set_desired(struct gw_buf *b, const struct gw_cloud_ask *ask)
{
    begin_form(b, "SetDesiredCapacity", AUTOSCALING);
    put(b, "AutoScalingGroupName", ask->group);
    put_number(b, "DesiredCapacity", ask->desired);
    put(b, "HonorCooldown", "false"); /* the core has a cool-down of its own, and knows why it asks */
}

static void write_delete(struct gw_buf *b, const struct gw_cloud_ask *ask)
{
    begin_form(b, "TerminateInstanceInAutoScalingGroup", AUTOSCALING);
    put(b, "InstanceId", ask->instance);
    put(b, "ShouldDecrementDesiredCapacity", "true");
}

static void write_complete(struct gw_buf *b, const struct gw_cloud_ask *ask)
{
    begin_form(b, "CompleteLifecycleAction", AUTOSCALING);
    put(b, "AutoScalingGroupName", ask->group);
    put(b, "LifecycleHookName", ask->hook);
    put(b, "LifecycleActionResult", "CONTINUE");
    put(b, "InstanceId", ask->instance);
    if (ask->token) put(b, "LifecycleActionToken", ask->token);
}

/* ---- ec2 ----------------------------------------------------------------------------------------------- */

static void write_describe_instance(struct gw_buf *b, const struct gw_cloud_ask *ask)
{
    begin_form(b, "DescribeInstances", EC2);
    put(b, "InstanceId.1", ask->instance);
}

/* StartTime = now gives the prices of now: the last change before it of each type and zone. */
static void write_prices(struct gw_buf *b, const struct gw_cloud_ask *ask, const char *page)
{
    char name[32], now[GW_TIME_ISO_BYTES];
    gw_time_print_iso(gw_clock_unix_ms(), now);
    begin_form(b, "DescribeSpotPriceHistory", EC2);
    for (int i = 0; i < GW_CLOUD_TYPES_MAX && ask->types[i]; i++) {
        snprintf(name, sizeof name, "InstanceType.%d", i + 1);
        put(b, name, ask->types[i]);
    }
    put(b, "ProductDescription.1", PRODUCT);
    put(b, "StartTime", now);
    put(b, "EndTime", now);
    if (page[0]) put(b, "NextToken", page);
}

/* ---- sqs ----------------------------------------------------------------------------------------------- */

static void put_json(struct gw_buf *b, const char *name, const char *value)
{
    gw_buf_printf(b, "%s\"%s\":", b->len ? "," : "{", name);
    gw_json_put_string(b, value, strlen(value));
}

static void write_receive(struct gw_buf *b, const struct gw_cloud_ask *ask)
{
    put_json(b, "QueueUrl", ask->queue);
    gw_buf_printf(b, ",\"MaxNumberOfMessages\":%d,\"WaitTimeSeconds\":%u,\"VisibilityTimeout\":%d}",
                  GW_CLOUD_MESSAGES_MAX, ask->wait_s < WAIT_S_MAX ? ask->wait_s : WAIT_S_MAX, VISIBILITY_S);
}

static void write_forget(struct gw_buf *b, const struct gw_cloud_ask *ask)
{
    put_json(b, "QueueUrl", ask->queue);
    put_json(b, "ReceiptHandle", ask->token);
    gw_buf_u8(b, '}');
}

/* ---- all ----------------------------------------------------------------------------------------------- */

static const char *service_of(enum gw_cloud_question q)
{
    switch (q) {
    case GW_CLOUD_DESCRIBE_GROUP:
    case GW_CLOUD_SET_DESIRED:
    case GW_CLOUD_DELETE_INSTANCE:
    case GW_CLOUD_COMPLETE_LIFECYCLE: return "autoscaling";
    case GW_CLOUD_DESCRIBE_INSTANCE:
    case GW_CLOUD_SPOT_PRICES: return "ec2";
    case GW_CLOUD_RECEIVE:
    case GW_CLOUD_FORGET: return "sqs";
    case GW_CLOUD_QUESTIONS: break;
    }
    return NULL;
}

static gw_err_t check(const struct gw_cloud_ask *ask, struct gw_err_ctx *ctx)
{
    enum gw_cloud_question q = ask->question;
    bool group =
        q == GW_CLOUD_DESCRIBE_GROUP || q == GW_CLOUD_SET_DESIRED || q == GW_CLOUD_COMPLETE_LIFECYCLE;
    bool instance =
        q == GW_CLOUD_DELETE_INSTANCE || q == GW_CLOUD_DESCRIBE_INSTANCE || q == GW_CLOUD_COMPLETE_LIFECYCLE;
    bool queue = q == GW_CLOUD_RECEIVE || q == GW_CLOUD_FORGET;
    const char *lacks = NULL;
    if (group && !ask->group) lacks = "a group";
    if (instance && !ask->instance) lacks = "an instance";
    if (q == GW_CLOUD_COMPLETE_LIFECYCLE && !ask->hook) lacks = "a hook";
    if (queue && !ask->queue) lacks = "a queue";
    if (q == GW_CLOUD_FORGET && !ask->token) lacks = "a receipt";
    if (!lacks) return GW_OK;
    return gw_fail(ctx, GW_ERR_INPUT, "%s: %s is needed", gw_cloud_question_name(q), lacks);
}

static void write_body(struct gw_buf *b, const struct gw_cloud_ask *ask, const char *page)
{
    switch (ask->question) {
    case GW_CLOUD_DESCRIBE_GROUP: write_describe_group(b, ask, page); break;
    case GW_CLOUD_SET_DESIRED: write_set_desired(b, ask); break;
    case GW_CLOUD_DELETE_INSTANCE: write_delete(b, ask); break;
    case GW_CLOUD_COMPLETE_LIFECYCLE: write_complete(b, ask); break;
    case GW_CLOUD_DESCRIBE_INSTANCE: write_describe_instance(b, ask); break;
    case GW_CLOUD_SPOT_PRICES: write_prices(b, ask, page); break;
    case GW_CLOUD_RECEIVE: write_receive(b, ask); break;
    case GW_CLOUD_FORGET: write_forget(b, ask); break;
    case GW_CLOUD_QUESTIONS: break;
    }
}

static void set_url(const struct gw_cloud_place *place, const char *service, struct gw_cloud_http *out)
{
    bool china = strncmp(place->region, "cn-", 3) == 0;
    if (place->endpoint)
        snprintf(out->url, sizeof out->url, "%s/", place->endpoint);
    else
        snprintf(out->url, sizeof out->url, "https://%s.%s.amazonaws.com%s/", service, place->region,
                 china ? ".cn" : "");
}

static void set_headers(const char *service, enum gw_cloud_question q, const struct gw_cloud_credentials *c,
                        struct gw_cloud_http *out)
{
    bool json = strcmp(service, "sqs") == 0;
    size_t n = 0;
    out->request.headers[n++] =
        json ? "Content-Type: application/x-amz-json-1.0" : "Content-Type: application/x-www-form-urlencoded";
    if (json) {
        snprintf(out->target, sizeof out->target, "X-Amz-Target: AmazonSQS.%s",
                 q == GW_CLOUD_RECEIVE ? "ReceiveMessage" : "DeleteMessage");
        out->request.headers[n++] = out->target;
    }
    if (c->session_token[0]) {
        snprintf(out->session_header, sizeof out->session_header, "X-Amz-Security-Token: %s",
                 c->session_token);
        out->request.headers[n++] = out->session_header;
    }
}

gw_err_t gw_aws_write(const struct gw_cloud_place *place, const struct gw_cloud_ask *ask, const char *page,
                      const struct gw_cloud_credentials *credentials, struct gw_cloud_http *out,
                      struct gw_err_ctx *ctx)
{
    const char *service = service_of(ask->question);
    if (!service) return gw_fail(ctx, GW_ERR_NOT_FOUND, "aws: no such question");
    TRY(check(ask, ctx));
    write_body(&out->body, ask, page);
    if (out->body.err != GW_OK) return gw_fail(ctx, out->body.err, "aws: the request is too long");
    set_url(place, service, out);
    snprintf(out->sigv4, sizeof out->sigv4, "aws:amz:%s:%s", place->region, service);
    out->request = (struct gw_web_request){.method = "POST",
                                           .url = out->url,
                                           .body = (const char *)out->body.data,
                                           .body_len = out->body.len,
                                           .timeout_us = TIMEOUT_US + (int64_t)ask->wait_s * GW_US_PER_S,
                                           .body_max = GW_CLOUD_BODY_MAX,
                                           .sigv4 = out->sigv4,
                                           .access_key = credentials->access_key,
                                           .secret_key = credentials->secret_key};
    set_headers(service, ask->question, credentials, out);
    return GW_OK;
}

const struct gw_cloud_provider gw_provider_aws = {.name = "aws", .write = gw_aws_write, .read = gw_aws_read};
