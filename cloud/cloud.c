#include "cloud/cloud.h"

#include <stdlib.h>

#define REQUEST_BODY_MAX (64u << 10)

const char *gw_cloud_question_name(enum gw_cloud_question question)
{
    static const char *const names[GW_CLOUD_QUESTIONS] = {
        "describe group",     "describe instance", "set desired capacity", "delete instance",
        "complete lifecycle", "spot prices",       "receive messages",     "forget message"};
    return question < GW_CLOUD_QUESTIONS ? names[question] : "?";
}

void gw_cloud_answer_fini(struct gw_cloud_answer *a)
{
    free(a->instances);
    free(a->prices);
    for (size_t i = 0; i < a->messages_len; i++) {
        free(a->messages[i].body);
        free(a->messages[i].receipt);
    }
    *a = (struct gw_cloud_answer){0};
}

void gw_cloud_http_init(struct gw_cloud_http *http)
{
    *http = (struct gw_cloud_http){0};
    gw_buf_init(&http->body, REQUEST_BODY_MAX);
}

void gw_cloud_http_fini(struct gw_cloud_http *http)
{
    gw_buf_fini(&http->body);
}
