/* AWS: the answers. XML of autoscaling and ec2, JSON of sqs; errors of all three.
 *
 * Source: the services' API references; error forms as the SDKs' common errors describe them. */
#include "cloud/aws.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cloud/answer_internal.h"
#include "cloud/xml.h"

#define CODE_MAX    128
#define MESSAGE_MAX 320

struct error {
    char code[CODE_MAX], message[MESSAGE_MAX];
};

/* What is being read. */
struct reading {
    struct gw_cloud_answer *answer;
    struct error error;
    struct gw_cloud_instance instance;
    struct gw_cloud_price price;
    bool group_seen;
};

/* ---- helpers ------------------------------------------------------------------------------------------- */

static bool ends_with(const char *path, const char *end)
{
    size_t len = strlen(path), end_len = strlen(end);
    return len >= end_len && strcmp(path + len - end_len, end) == 0;
}

/* The history is newest first within a type and zone: the first is the price. */
static gw_err_t add_price(struct gw_cloud_answer *a, const struct gw_cloud_price *p)
{
    if (!p->type[0] || !p->zone[0] || !(p->usd_h > 0)) return GW_ERR_PROTO;
    for (size_t i = 0; i < a->prices_len; i++)
        if (strcmp(a->prices[i].type, p->type) == 0 && strcmp(a->prices[i].zone, p->zone) == 0) return GW_OK;
    TRY(answer_grow((void **)&a->prices, &a->prices_cap, a->prices_len, GW_CLOUD_PRICES_MAX,
                    sizeof *a->prices));
    a->prices[a->prices_len++] = *p;
    return GW_OK;
}

static uint32_t number(const char *text)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    return *text && !*end && v <= GW_CLOUD_INSTANCES_MAX ? (uint32_t)v : 0;
}

/* ---- errors -------------------------------------------------------------------------------------------- */

static gw_err_t on_error_end(void *arg, const char *path, const char *text)
{
    struct error *e = arg;
    if (ends_with(path, "/Error/Code")) snprintf(e->code, sizeof e->code, "%s", text);
    if (ends_with(path, "/Error/Message")) snprintf(e->message, sizeof e->message, "%s", text);
    return GW_OK;
}

/* {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "…"} */
static void read_json_error(const char *body, size_t len, struct error *e)
{
    cJSON *tree = NULL;
    const char *type = NULL, *message = NULL;
    if (gw_json_parse(body, len, GW_CLOUD_MESSAGE_BYTES, &tree, NULL) != GW_OK) return;
    if (gw_json_string(tree, "__type", &type, NULL) == GW_OK && type) {
        const char *hash = strchr(type, '#');
        snprintf(e->code, sizeof e->code, "%s", hash ? hash + 1 : type);
    }
    if (gw_json_string(tree, "message", &message, NULL) == GW_OK && message)
        snprintf(e->message, sizeof e->message, "%s", message);
    cJSON_Delete(tree);
}

static struct error read_error(const char *body, size_t len)
{
    struct error e = {0};
    const struct gw_xml_handler handler = {.end = on_error_end, .arg = &e};
    if (len && body[0] == '{')
        read_json_error(body, len, &e);
    else if (gw_xml_walk(body, len, &handler, NULL) != GW_OK)
        e.code[0] = '\0';
    return e;
}

static bool is_one_of(const char *code, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(code, *list) == 0) return true;
    return false;
}

static enum gw_cloud_verdict verdict_of(const struct gw_cloud_ask *ask, int status, const struct error *e)
{
    static const char *const again[] = {"ScalingActivityInProgress",
                                        "ResourceContention",
                                        "Throttling",
                                        "ThrottlingException",
                                        "RequestThrottled",
                                        "RequestLimitExceeded",
                                        "TooManyRequestsException",
                                        "ServiceUnavailable",
                                        "InternalFailure",
                                        "InternalError",
                                        "Unavailable",
                                        "OverLimit",
                                        "ScalingActivityInProgressFault",
                                        "ResourceContentionFault",
                                        NULL};
    static const char *const expired[] = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", NULL};
    bool complete = ask->question == GW_CLOUD_COMPLETE_LIFECYCLE,
         delete = ask->question == GW_CLOUD_DELETE_INSTANCE;
    if (complete && strstr(e->message, "No active Lifecycle Action found")) return GW_CLOUD_OK;
    if (delete &&strstr(e->message, "Instance Id not found"))
        return GW_CLOUD_OK; /* gone is what was wanted */
    if (is_one_of(e->code, expired)) return GW_CLOUD_EXPIRED;
    return status == 429 || status / 100 == 5 || is_one_of(e->code, again) ? GW_CLOUD_AGAIN : GW_CLOUD_NO;
}

static const char *advice(const struct error *e)
{
    static const char *const denied[] = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation",
                                         NULL};
    static const char *const unknown[] = {
        "InvalidClientTokenId",  "UnrecognizedClientException", "AuthFailure",
        "SignatureDoesNotMatch", "InvalidSignatureException",   NULL};
    if (is_one_of(e->code, denied))
        return "; the controller's role needs this action (terraform/modules/aws)";
    if (is_one_of(e->code, unknown))
        return "; these credentials are wrong: look at the role, its keys, this clock";
    return "";
}

/* ---- groups and instances ------------------------------------------------------------------------------ */

#define GROUP    "/AutoScalingGroups/member"
#define IN_GROUP GROUP "/Instances/member"

/* "InService", "Pending", "Pending:Wait", "Terminating:Wait", … Standby and Detaching are on their way out too. */
static enum gw_cloud_state lifecycle_state(const char *text)
{
    if (strcmp(text, "InService") == 0) return GW_CLOUD_RUNNING;
    return strncmp(text, "Pending", 7) == 0 ? GW_CLOUD_PENDING : GW_CLOUD_ENDING;
}

static gw_err_t on_group_begin(void *arg, const char *path)
{
    struct reading *r = arg;
    if (ends_with(path, IN_GROUP)) r->instance = (struct gw_cloud_instance){.spot = false};
    return GW_OK;
}

static gw_err_t on_group_end(void *arg, const char *path, const char *text)
{
    struct reading *r = arg;
    struct gw_cloud_instance *i = &r->instance;
    bool fits = true;
    if (ends_with(path, IN_GROUP)) return answer_add_instance(r->answer, i);
    if (ends_with(path, IN_GROUP "/InstanceId")) fits = answer_copy(i->id, sizeof i->id, text);
    if (ends_with(path, IN_GROUP "/InstanceType")) fits = answer_copy(i->type, sizeof i->type, text);
    if (ends_with(path, IN_GROUP "/AvailabilityZone")) fits = answer_copy(i->zone, sizeof i->zone, text);
    if (ends_with(path, IN_GROUP "/LifecycleState")) i->state = lifecycle_state(text);
    if (ends_with(path, IN_GROUP "/ProtectedFromScaleIn")) i->protected_ = strcmp(text, "true") == 0;
    if (ends_with(path, GROUP "/MinSize")) r->answer->min = number(text);
    if (ends_with(path, GROUP "/MaxSize")) r->answer->max = number(text);
    if (ends_with(path, GROUP "/DesiredCapacity")) r->answer->desired = number(text);
    if (ends_with(path, GROUP)) r->group_seen = true;
    if (ends_with(path, "/DescribeAutoScalingGroupsResult/NextToken"))
        fits = answer_copy(r->answer->next, sizeof r->answer->next, text);
    return fits ? GW_OK : GW_ERR_LIMIT;
}

#define INSTANCE "/reservationSet/item/instancesSet/item"

static enum gw_cloud_state instance_state(const char *text)
{
    if (strcmp(text, "running") == 0) return GW_CLOUD_RUNNING;
    return strcmp(text, "pending") == 0 ? GW_CLOUD_PENDING : GW_CLOUD_ENDING;
}

static gw_err_t on_instance_end(void *arg, const char *path, const char *text)
{
    struct reading *r = arg;
    struct gw_cloud_instance *i = &r->instance;
    bool fits = true;
    if (ends_with(path, INSTANCE)) {
        gw_err_t err = answer_add_instance(r->answer, i);
        *i = (struct gw_cloud_instance){.spot = false};
        return err;
    }
    if (ends_with(path, INSTANCE "/instanceId")) fits = answer_copy(i->id, sizeof i->id, text);
    if (ends_with(path, INSTANCE "/instanceType")) fits = answer_copy(i->type, sizeof i->type, text);
    if (ends_with(path, INSTANCE "/placement/availabilityZone"))
        fits = answer_copy(i->zone, sizeof i->zone, text);
    if (ends_with(path, INSTANCE "/instanceState/name")) i->state = instance_state(text);
    if (ends_with(path, INSTANCE "/instanceLifecycle")) i->spot = strcmp(text, "spot") == 0;
    return fits ? GW_OK : GW_ERR_LIMIT;
}

#define PRICE "/spotPriceHistorySet/item"

static gw_err_t on_price_end(void *arg, const char *path, const char *text)
{
    struct reading *r = arg;
    struct gw_cloud_price *p = &r->price;
    bool fits = true;
    if (ends_with(path, PRICE)) {
        gw_err_t err = add_price(r->answer, p);
        *p = (struct gw_cloud_price){0};
        return err;
    }
    if (ends_with(path, PRICE "/instanceType")) fits = answer_copy(p->type, sizeof p->type, text);
    if (ends_with(path, PRICE "/availabilityZone")) fits = answer_copy(p->zone, sizeof p->zone, text);
    if (ends_with(path, PRICE "/spotPrice")) p->usd_h = strtod(text, NULL);
    if (ends_with(path, "/nextToken")) fits = answer_copy(r->answer->next, sizeof r->answer->next, text);
    return fits ? GW_OK : GW_ERR_LIMIT;
}

/* ---- messages ------------------------------------------------------------------------------------------ */

static gw_err_t add_message(struct gw_cloud_answer *a, const cJSON *item, struct gw_err_ctx *ctx)
{
    const char *body = NULL, *receipt = NULL;
    if (a->messages_len == GW_CLOUD_MESSAGES_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "more messages than asked for");
    TRY(gw_json_string(item, "Body", &body, ctx));
    TRY(gw_json_string(item, "ReceiptHandle", &receipt, ctx));
    if (!body || !receipt) return gw_fail(ctx, GW_ERR_PROTO, "a message without Body or ReceiptHandle");
    if (strlen(receipt) >= GW_CLOUD_TOKEN_MAX) return gw_fail(ctx, GW_ERR_LIMIT, "a receipt is too long");
    struct gw_cloud_message *m = &a->messages[a->messages_len];
    m->body = strdup(body);
    m->receipt = strdup(receipt);
    m->body_len = strlen(body);
    a->messages_len++;
    return m->body && m->receipt ? GW_OK : gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
}

/* {"Messages": [{"MessageId", "ReceiptHandle", "MD5OfBody", "Body"}]}; nothing there: {} */
static gw_err_t read_messages(struct gw_cloud_answer *a, const char *body, size_t len, struct gw_err_ctx *ctx)
{
    cJSON *tree = NULL;
    const cJSON *item;
    TRY(gw_json_parse(body, len, GW_CLOUD_BODY_MAX, &tree, ctx));
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "Messages");
    gw_err_t err = GW_OK;
    if (!cJSON_IsObject(tree) || (list && !cJSON_IsArray(list) && !cJSON_IsNull(list)))
        err = gw_fail(ctx, GW_ERR_PROTO, "no list of messages");
    else
        cJSON_ArrayForEach(item, list) if (err == GW_OK) err = add_message(a, item, ctx);
    cJSON_Delete(tree);
    return err;
}

/* ---- all ----------------------------------------------------------------------------------------------- */

static gw_err_t read_good(const struct gw_cloud_ask *ask, const char *body, size_t len,
                          struct gw_cloud_answer *answer, struct gw_err_ctx *ctx)
{
    struct reading r = {.answer = answer};
    struct gw_xml_handler handler = {.arg = &r};
    answer->next[0] = '\0';
    switch (ask->question) {
    case GW_CLOUD_DESCRIBE_GROUP:
        handler.begin = on_group_begin;
        handler.end = on_group_end;
        TRY(gw_xml_walk(body, len, &handler, ctx));
        return r.group_seen ? GW_OK
                            : gw_fail(ctx, GW_ERR_NOT_FOUND, "there is no group '%.128s'", ask->group);
    case GW_CLOUD_DESCRIBE_INSTANCE:
        handler.end = on_instance_end;
        return gw_xml_walk(body, len, &handler, ctx);
    case GW_CLOUD_SPOT_PRICES: handler.end = on_price_end; return gw_xml_walk(body, len, &handler, ctx);
    case GW_CLOUD_RECEIVE: return read_messages(answer, body, len, ctx);
    default: return GW_OK; /* that it was 200 is the answer */
    }
}

enum gw_cloud_verdict gw_aws_read(const struct gw_cloud_ask *ask, int status, const char *body,
                                  size_t body_len, struct gw_cloud_answer *answer, struct gw_err_ctx *ctx)
{
    if (status == 200) {
        if (read_good(ask, body, body_len, answer, ctx) == GW_OK) return GW_CLOUD_OK;
        (void)gw_fail_prefix(ctx, GW_ERR_CLOUD, "aws: %s", gw_cloud_question_name(ask->question));
        return GW_CLOUD_NO;
    }
    struct error e = read_error(body, body_len);
    enum gw_cloud_verdict verdict = verdict_of(ask, status, &e);
    if (verdict != GW_CLOUD_OK)
        (void)gw_fail(ctx, GW_ERR_CLOUD, "aws: %s: status %d, %s: %s%s",
                      gw_cloud_question_name(ask->question), status,
                      e.code[0] ? e.code : "an answer that is not as documented", e.message, advice(&e));
    return verdict;
}
