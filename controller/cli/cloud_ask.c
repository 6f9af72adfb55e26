#include "controller/cli/cloud_ask.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller/cli/admin_client.h"

#define PATH_BYTES 160
#define BODY_BYTES 160
#define ID_MAX     64 /* of what a person types; the cloud says which there are */

const char cloud_ask_help[] =
    "    godwit cloud list             the instances that there are\n"
    "    godwit cloud preempt ID       a spot instance's notice, then its end (--notice-s)\n"
    "    godwit cloud cancel ID        it may stay after all\n"
    "    godwit cloud rebalance ID     a recommendation to leave it\n"
    "    godwit cloud kill ID          gone at once, without notice\n"
    "    godwit cloud supply N         of spot instances there are so many at most\n";

struct verb {
    const char *name;
    bool word;          /* needs a second one */
    const char *suffix; /* behind /v1/instances/ID; NULL: not about one instance */
    const char *body;
};

static const struct verb verbs[] = {
    {"list", false, NULL, NULL},
    {"preempt", true, "/notices", "{\"kind\":\"preempt\"}"},
    {"cancel", true, "/notices", "{\"kind\":\"preempt\",\"cancel\":true}"},
    {"rebalance", true, "/notices", "{\"kind\":\"rebalance\"}"},
    {"kill", true, "/kill", "{}"},
    {"supply", true, NULL, NULL},
};

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, name) == 0) return &verbs[i];
    return NULL;
}

static const char *text_of(const cJSON *item, const char *field)
{
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(item, field);
    return cJSON_IsString(text) ? text->valuestring : "";
}

static double number_of(const cJSON *item, const char *field)
{
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(item, field);
    return cJSON_IsNumber(n) ? n->valuedouble : 0;
}

static void print_list(const cJSON *answer)
{
    const cJSON *i;
    printf("%-12s %-10s %-12s %-14s %8s %8s\n", "instance", "group", "zone", "state", "USD/h", "pid");
    cJSON_ArrayForEach(i, cJSON_GetObjectItemCaseSensitive(answer, "instances"))
    {
        char state[32];
        snprintf(state, sizeof state, "%.20s", text_of(i, "state"));
        if (strcmp(state, "noticed") == 0)
            snprintf(state, sizeof state, "goes in %.0f s", number_of(i, "goes_in_s"));
        printf("%-12.32s %-10.16s %-12.32s %-14s %8.4f %8.0f\n", text_of(i, "id"), text_of(i, "group"),
               text_of(i, "zone"), state, number_of(i, "usd_h"), number_of(i, "worker_pid"));
    }
}

static gw_err_t write_request(const struct verb *v, const char *word, double notice_s, char path[PATH_BYTES],
                              char body[BODY_BYTES], struct gw_err_ctx *ctx)
{
    snprintf(body, BODY_BYTES, "%s", v->body ? v->body : "");
    if (v->suffix) {
        if (strlen(word) > ID_MAX || strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(word))
            return gw_fail(ctx, GW_ERR_INPUT, "there is no instance '%.64s'", word);
        snprintf(path, PATH_BYTES, "/v1/instances/%s%s", word, v->suffix);
        if (!isnan(notice_s) && strcmp(v->name, "preempt") == 0)
            snprintf(body, BODY_BYTES, "{\"kind\":\"preempt\",\"deadline_s\":%.3f}", notice_s);
        return GW_OK;
    }
    snprintf(path, PATH_BYTES, v->word ? "/v1/supply" : "/v1/instances");
    if (!v->word) return GW_OK;
    if (strlen(word) > 9 || strspn(word, "0123456789") != strlen(word))
        return gw_fail(ctx, GW_ERR_INPUT, "'%.64s' is no count of instances", word);
    snprintf(body, BODY_BYTES, "{\"spot\":%s}", word);
    return GW_OK;
}

gw_err_t cloud_ask(const char *endpoint, const char *const words[CLOUD_WORDS_MAX], int words_len,
                   double notice_s, struct gw_err_ctx *ctx)
{
    const struct admin_options options = {
        .admin = endpoint,
        .hint = "does `godwit cloud`, or `godwit up --cloud sim`, run there? (see --listen)"};
    const struct verb *v = find_verb(words[0]);
    char path[PATH_BYTES], body[BODY_BYTES];
    struct admin_client *client;
    cJSON *answer = NULL;
    if (!v || words_len != (v->word ? 2 : 1))
        return gw_fail(ctx, GW_ERR_INPUT, "expected one of:\n%s", cloud_ask_help);
    TRY(write_request(v, v->word ? words[1] : "", notice_s, path, body, ctx));
    TRY(admin_open(&options, &client, ctx));
    gw_err_t err = admin_call(client, path, body[0] ? body : NULL, &answer, ctx);
    if (err == GW_OK && !v->word) print_list(answer);
    cJSON_Delete(answer);
    admin_close(client);
    return err;
}
