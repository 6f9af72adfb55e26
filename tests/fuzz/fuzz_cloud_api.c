/* Clouds' answers and AWS's events: any bytes give an answer within its bounds, or an error with a text.
 *
 * Input: a byte for the question (behind the last: a queue message), the status and the provider, then the body; it is
 * read twice, as a first page and as a second. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/aws_event.h"
#include "cloud/cloud.h"
#include "tests/fuzz/fuzz.h"

static void read_event(const char *body, size_t len)
{
    struct gw_aws_event e = {.type = GW_AWS_EVENT_OTHER};
    struct gw_err_ctx ctx = {0};
    if (gw_aws_event_read(body, len, &e, &ctx) != GW_OK) {
        assert(ctx.code != GW_OK && ctx.text[0]);
        return;
    }
    if (e.type != GW_AWS_EVENT_OTHER) assert(strncmp(e.instance, "i-", 2) == 0);
    if (e.type == GW_AWS_EVENT_LIFECYCLE) assert(e.group[0] && e.hook[0] && e.token[0]);
}

static void check_answer(const struct gw_cloud_answer *a)
{
    assert(a->instances_len <= GW_CLOUD_INSTANCES_MAX && a->messages_len <= GW_CLOUD_MESSAGES_MAX);
    for (size_t i = 0; i < a->instances_len; i++) assert(a->instances[i].id[0]);
    for (size_t i = 0; i < a->prices_len; i++) assert(a->prices[i].usd_h > 0);
    for (size_t i = 0; i < a->messages_len; i++)
        assert(strlen(a->messages[i].body) == a->messages[i].body_len);
}

static void read_answer(const struct gw_cloud_provider *provider, enum gw_cloud_question question, int status,
                        const char *body, size_t len)
{
    struct gw_cloud_answer answer = {0};
    struct gw_err_ctx ctx = {0};
    const struct gw_cloud_ask ask = {.question = question, .group = "g", .instance = "i-1", .queue = "q"};
    for (int page = 0; page < 2; page++) {
        gw_err_reset(&ctx);
        if (provider->read(&ask, status, body, len, &answer, &ctx) == GW_CLOUD_OK)
            check_answer(&answer);
        else
            assert(ctx.code != GW_OK && ctx.text[0]);
    }
    gw_cloud_answer_fini(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const struct gw_cloud_provider *const all[] = {&gw_provider_aws, &gw_provider_gcp,
                                                          &gw_provider_azure, &gw_provider_sim};
    if (len == 0) return 0;
    unsigned question = bytes[0] & 15;
    char *body = malloc(len);
    memcpy(body, bytes + 1, len - 1);
    body[len - 1] = '\0';
    if (question >= GW_CLOUD_QUESTIONS)
        read_event(body, len - 1);
    else
        read_answer(all[bytes[0] >> 6], (enum gw_cloud_question)question, bytes[0] & 16 ? 400 : 200, body,
                    len - 1);
    free(body);
    return 0;
}
