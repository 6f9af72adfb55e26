#include "cloud/aws_event.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cloud/times.h"

#define WARNING_MS  (120 * 1000) /* "two minutes before": the event itself has no other time */
#define TERMINATING "autoscaling:EC2_INSTANCE_TERMINATING"

static const char *text_of(const cJSON *tree, const char *field)
{
    const char *text = NULL;
    return gw_json_string(tree, field, &text, NULL) == GW_OK && text ? text : "";
}

static gw_err_t take(char *to, size_t size, const cJSON *tree, const char *field, struct gw_err_ctx *ctx)
{
    const char *text = text_of(tree, field);
    size_t len = strlen(text);
    if (len == 0 || len >= size) return gw_fail(ctx, GW_ERR_PROTO, "no '%s', or a long one", field);
    for (size_t i = 0; i < len; i++)
        if (!isprint((unsigned char)text[i]))
            return gw_fail(ctx, GW_ERR_PROTO, "'%s' is not printable", field);
    memcpy(to, text, len + 1);
    return GW_OK;
}

static gw_err_t take_instance(struct gw_aws_event *e, const cJSON *tree, const char *field,
                              struct gw_err_ctx *ctx)
{
    TRY(take(e->instance, sizeof e->instance, tree, field, ctx));
    return strncmp(e->instance, "i-", 2) == 0 ? GW_OK
                                              : gw_fail(ctx, GW_ERR_PROTO, "'%s' is no instance", field);
}

static gw_err_t take_time(struct gw_aws_event *e, const cJSON *tree, const char *field,
                          struct gw_err_ctx *ctx)
{
    if (gw_time_parse_iso(text_of(tree, field), &e->time_unix_ms) == GW_OK) return GW_OK;
    return gw_fail(ctx, GW_ERR_PROTO, "'%s' is no time", field);
}

/* Of EventBridge's detail, or of the group's own message: the fields are the same. */
static gw_err_t read_lifecycle(const cJSON *tree, struct gw_aws_event *e, struct gw_err_ctx *ctx)
{
    if (strcmp(text_of(tree, "LifecycleTransition"), TERMINATING) != 0) return GW_OK;
    TRY(take_instance(e, tree, "EC2InstanceId", ctx));
    TRY(take(e->group, sizeof e->group, tree, "AutoScalingGroupName", ctx));
    TRY(take(e->hook, sizeof e->hook, tree, "LifecycleHookName", ctx));
    TRY(take(e->token, sizeof e->token, tree, "LifecycleActionToken", ctx));
    e->type = GW_AWS_EVENT_LIFECYCLE;
    e->kind = GW_CLOUD_SCALE_IN;
    return GW_OK;
}

static gw_err_t read_eventbridge(const cJSON *tree, struct gw_aws_event *e, struct gw_err_ctx *ctx)
{
    const char *type = text_of(tree, "detail-type"), *source = text_of(tree, "source");
    const cJSON *detail = cJSON_GetObjectItemCaseSensitive(tree, "detail");
    bool ec2 = strcmp(source, "aws.ec2") == 0, autoscaling = strcmp(source, "aws.autoscaling") == 0;
    if (!cJSON_IsObject(detail)) return gw_fail(ctx, GW_ERR_PROTO, "an event without detail");
    TRY(take_time(e, tree, "time", ctx));
    if (autoscaling && strcmp(type, "EC2 Instance-terminate Lifecycle Action") == 0)
        return read_lifecycle(detail, e, ctx);
    bool warning = ec2 && strcmp(type, "EC2 Spot Instance Interruption Warning") == 0;
    bool rebalance = ec2 && strcmp(type, "EC2 Instance Rebalance Recommendation") == 0;
    if (!warning && !rebalance) return GW_OK;
    TRY(take_instance(e, detail, "instance-id", ctx));
    e->type = GW_AWS_EVENT_NOTICE;
    e->kind = warning ? GW_CLOUD_PREEMPT : GW_CLOUD_REBALANCE;
    if (warning) e->ends_unix_ms = e->time_unix_ms + WARNING_MS;
    if (warning && strcmp(text_of(detail, "instance-action"), "hibernate") == 0)
        e->ends_unix_ms = e->time_unix_ms;
    return GW_OK;
}

static gw_err_t read_tree(const cJSON *tree, struct gw_aws_event *e, struct gw_err_ctx *ctx)
{
    if (!cJSON_IsObject(tree)) return gw_fail(ctx, GW_ERR_PROTO, "not an object");
    if (text_of(tree, "detail-type")[0]) return read_eventbridge(tree, e, ctx);
    if (!text_of(tree, "LifecycleTransition")[0]) return GW_OK;
    TRY(take_time(e, tree, "Time", ctx));
    return read_lifecycle(tree, e, ctx);
}

/* SNS puts the message as a string into a message; once, so once is looked. */
static gw_err_t read_text(const char *body, size_t len, bool inner, struct gw_aws_event *e,
                          struct gw_err_ctx *ctx)
{
    cJSON *tree = NULL;
    if (gw_json_parse(body, len, GW_CLOUD_MESSAGE_BYTES * 4, &tree, ctx) != GW_OK) {
        gw_err_reset(ctx);
        return gw_fail(ctx, GW_ERR_PROTO, "a message that is not JSON");
    }
    const char *message = text_of(tree, "Message");
    bool sns = !inner && strcmp(text_of(tree, "Type"), "Notification") == 0 && message[0];
    gw_err_t err = sns ? read_text(message, strlen(message), true, e, ctx) : read_tree(tree, e, ctx);
    cJSON_Delete(tree);
    return err;
}

gw_err_t gw_aws_event_read(const char *body, size_t len, struct gw_aws_event *out, struct gw_err_ctx *ctx)
{
    struct gw_aws_event e = {.type = GW_AWS_EVENT_OTHER};
    struct gw_err_ctx own = {0};
    TRY(read_text(body, len, false, &e, ctx ? ctx : &own));
    *out = e;
    return GW_OK;
}
