/* cloud_call: one question to a cloud's API, or the notice queue for a while; the answer as JSON lines. For the tests
 * that play the cloud.
 *
 *     cloud_call PROVIDER QUESTION [--endpoint URL] [--metadata URL] [--region R] [--group G] [--instance I] [--hook H]
 *                [--token T] [--queue URL] [--types a,b] [--desired N] [--wait S]
 *     cloud_call aws queue --queue URL --wait S        every event is taken, but those of --instance: it is unknown
 *
 * Last line: {"err": "ok" or a category, "text": …, "busy_us": the longest the loop was kept by one round, "cpu_us": what
 * all threads took}. */
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/args.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "cloud/backend.h"
#include "cloud/queue.h"

#define WAIT_US 200 /* between two rounds */

struct program {
    const char *endpoint, *metadata, *region, *types;
    struct gw_cloud_ask ask;
    int64_t desired, wait_s;
    struct gw_log log;
    struct event_base *loop;
    struct gw_pool *pool;
    struct gw_web_client *fetch;
    struct gw_calls *calls;
    struct gw_queue *queue;
    struct gw_cloud_answer answer; /* printed once the loop is no longer measured */
    gw_err_t err;
    char text[GW_ERR_TEXT_MAX];
    bool done;
};

static void print_text(const char *name, const char *text, const char *end)
{
    struct gw_buf b;
    gw_buf_init(&b, 1 << 20);
    gw_json_put_string(&b, text, strlen(text));
    printf("\"%s\": %s%s", name, gw_buf_cstr(&b), end);
    gw_buf_fini(&b);
}

static const char *state_name(enum gw_cloud_state s)
{
    static const char *const names[] = {"pending", "running", "ending"};
    return names[s];
}

static void print_answer(const struct gw_cloud_answer *a)
{
    printf("{\"min\": %u, \"max\": %u, \"desired\": %u, \"instances\": [", a->min, a->max, a->desired);
    for (size_t i = 0; i < a->instances_len; i++) {
        const struct gw_cloud_instance *in = &a->instances[i];
        printf("%s{", i ? ", " : "");
        print_text("id", in->id, ", ");
        print_text("type", in->type, ", ");
        print_text("zone", in->zone, ", ");
        print_text("handle", in->handle, ", ");
        printf("\"state\": \"%s\", \"spot\": %d, \"protected\": %d}", state_name(in->state), in->spot,
               in->protected_);
    }
    printf("], \"prices\": [");
    for (size_t i = 0; i < a->prices_len; i++) {
        printf("%s{", i ? ", " : "");
        print_text("type", a->prices[i].type, ", ");
        print_text("zone", a->prices[i].zone, ", ");
        printf("\"usd_h\": %.6f}", a->prices[i].usd_h);
    }
    printf("], \"messages\": [");
    for (size_t i = 0; i < a->messages_len; i++) {
        printf("%s{", i ? ", " : "");
        print_text("body", a->messages[i].body, ", ");
        print_text("receipt", a->messages[i].receipt, "}");
    }
    printf("]}\n");
}

static void on_answer(void *arg, gw_err_t err, const char *text, struct gw_cloud_answer *answer)
{
    struct program *p = arg;
    p->done = true;
    p->err = err;
    snprintf(p->text, sizeof p->text, "%s", text);
    p->answer = *answer;
    *answer = (struct gw_cloud_answer){0};
}

static enum gw_queue_verdict on_event(void *arg, const struct gw_aws_event *e, int64_t deadline_us)
{
    const struct program *p = arg;
    double left_s = deadline_us ? (double)(deadline_us - gw_clock_mono_us()) / (double)GW_US_PER_S : 0;
    bool unknown = p->ask.instance && strcmp(p->ask.instance, e->instance) == 0;
    printf(
        "{\"kind\": \"%s\", \"instance\": \"%s\", \"deadline_s\": %.1f, \"hook\": \"%s\", \"unknown\": %d}\n",
        gw_cloud_notice_name(e->kind), e->instance, left_s, e->hook, unknown);
    fflush(stdout);
    return unknown ? GW_QUEUE_UNKNOWN : GW_QUEUE_TAKEN;
}

static gw_err_t find_question(const char *name, enum gw_cloud_question *out, struct gw_err_ctx *ctx)
{
    for (int q = 0; q < GW_CLOUD_QUESTIONS; q++) {
        if (strcmp(name, gw_cloud_question_name((enum gw_cloud_question)q)) != 0) continue;
        *out = (enum gw_cloud_question)q;
        return GW_OK;
    }
    return gw_fail(ctx, GW_ERR_INPUT, "no question is named '%s'", name);
}

static gw_err_t parse(int argc, char **argv, struct program *p, const char *words[2], struct gw_err_ctx *ctx)
{
    int nwords = 0;
    bool help = false;
    const struct gw_flag flags[] = {{"endpoint", GW_FLAG_STRING, &p->endpoint, "URL", "", 0, 0},
                                    {"metadata", GW_FLAG_STRING, &p->metadata, "URL", "", 0, 0},
                                    {"region", GW_FLAG_STRING, &p->region, "R", "", 0, 0},
                                    {"group", GW_FLAG_STRING, &p->ask.group, "G", "", 0, 0},
                                    {"instance", GW_FLAG_STRING, &p->ask.instance, "I", "", 0, 0},
                                    {"handle", GW_FLAG_STRING, &p->ask.handle, "H", "", 0, 0},
                                    {"hook", GW_FLAG_STRING, &p->ask.hook, "H", "", 0, 0},
                                    {"token", GW_FLAG_STRING, &p->ask.token, "T", "", 0, 0},
                                    {"queue", GW_FLAG_STRING, &p->ask.queue, "URL", "", 0, 0},
                                    {"types", GW_FLAG_STRING, &p->types, "LIST", "", 0, 0},
                                    {"desired", GW_FLAG_INT, &p->desired, "N", "", 0, 100000},
                                    {"wait", GW_FLAG_INT, &p->wait_s, "S", "", 0, 60},
                                    {0}};
    TRY(gw_args_parse(argc, argv, flags, words, 2, &nwords, &help, ctx));
    if (nwords != 2) return gw_fail(ctx, GW_ERR_INPUT, "PROVIDER and QUESTION are needed");
    p->ask.desired = (uint32_t)p->desired;
    p->ask.wait_s = (uint32_t)p->wait_s;
    return strcmp(words[1], "queue") == 0 ? GW_OK : find_question(words[1], &p->ask.question, ctx);
}

/* Cuts a copy of the list at its commas. */
static void split_types(struct program *p, char *list)
{
    int n = 0;
    for (char *at = list; at && n < GW_CLOUD_TYPES_MAX; n++) {
        char *comma = strchr(at, ',');
        if (comma) *comma = '\0';
        p->ask.types[n] = at;
        at = comma ? comma + 1 : NULL;
    }
}

static const char *env(const char *name)
{
    return getenv(name);
}

static gw_err_t open_all(struct program *p, const char *provider, struct gw_err_ctx *ctx)
{
    struct gw_calls_config config = {0};
    const struct gw_cloud_backend *backend = gw_cloud_backend_find(provider);
    if (!backend) return gw_fail(ctx, GW_ERR_INPUT, "no provider is named '%s'", provider);
    config.provider = backend->provider;
    config.auth = backend->auth;
    p->loop = event_base_new();
    TRY(gw_pool_create(p->loop, 1, GW_CALLS_MAX, &p->pool, ctx));
    TRY(gw_web_client_create(p->loop, &p->fetch, ctx));
    config.loop = p->loop;
    config.pool = p->pool;
    config.fetcher = gw_web_client_table(p->fetch);
    config.place = (struct gw_cloud_place){.region = p->region, .endpoint = p->endpoint};
    config.auth_config = (struct gw_auth_config){.metadata_url = p->metadata,
                                                 .endpoint = p->endpoint,
                                                 .region = p->region,
                                                 .env = env,
                                                 .log = &p->log};
    gw_random_bytes(&config.seed, sizeof config.seed);
    return gw_calls_create(&config, &p->calls, ctx);
}

static gw_err_t start(struct program *p, bool queue, struct gw_err_ctx *ctx)
{
    const struct gw_queue_config config = {
        .loop = p->loop, .calls = p->calls, .url = p->ask.queue, .log = &p->log, .event = on_event, .arg = p};
    if (queue) return gw_queue_create(&config, &p->queue, ctx);
    return gw_calls_start(p->calls, &p->ask, on_answer, p);
}

static int64_t cpu_us(clockid_t of)
{
    struct timespec t;
    clock_gettime(of, &t);
    return t.tv_sec * GW_US_PER_S + t.tv_nsec / 1000;
}

/* Runs the loop one round at a time; the longest that one kept this thread's processor. It waits outside of the rounds: what the
 * kernel does in a waiting thread's time (taking in what a peer on the same machine sends) is no work of the loop's. */
static int64_t run(struct program *p, int64_t end_us)
{
    int64_t longest_us = 0;
    while (!p->done && gw_clock_mono_us() < end_us) {
        int64_t before_us = cpu_us(CLOCK_THREAD_CPUTIME_ID);
        event_base_loop(p->loop, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        int64_t took_us = cpu_us(CLOCK_THREAD_CPUTIME_ID) - before_us;
        if (took_us > longest_us) longest_us = took_us;
        usleep(WAIT_US);
    }
    return longest_us;
}

static void print_end(struct program *p)
{
    if (p->err == GW_OK) print_answer(&p->answer);
    printf("{\"err\": \"%s\", ", p->err == GW_OK ? "ok" : gw_err_name(p->err));
    print_text("text", p->text, ", ");
}

static void print_queue(struct program *p)
{
    struct gw_queue_stats s;
    gw_queue_stats(p->queue, &s);
    printf("{\"received\": %d, \"taken\": %d, \"unknown\": %d, \"other\": %d, \"odd\": %d, ", (int)s.received,
           (int)s.taken, (int)s.unknown, (int)s.other, (int)s.odd);
    printf("\"err\": \"ok\", ");
}

int main(int argc, char **argv)
{
    struct program p = {.region = "eu-central-1", .wait_s = 0};
    struct gw_err_ctx ctx = {0};
    const char *words[2] = {"", ""};
    p.log = (struct gw_log){.fd = STDERR_FILENO, .level = GW_LOG_INFO, .program = "cloud_call"};
    gw_err_t err = parse(argc, argv, &p, words, &ctx);
    char *types = p.types ? strdup(p.types) : NULL;
    split_types(&p, types);
    bool queue = strcmp(words[1], "queue") == 0;
    if (err == GW_OK) err = open_all(&p, words[0], &ctx);
    if (err == GW_OK) err = start(&p, queue, &ctx);
    if (err == GW_OK) {
        int64_t longest_us = run(&p, gw_clock_mono_us() + (queue ? p.wait_s * GW_US_PER_S : INT64_MAX / 2));
        int64_t all_us = cpu_us(CLOCK_PROCESS_CPUTIME_ID);
        (queue ? print_queue : print_end)(&p);
        printf("\"busy_us\": %lld, \"cpu_us\": %lld}\n", (long long)longest_us, (long long)all_us);
    }
    gw_web_client_destroy(p.fetch);
    if (p.pool) gw_pool_destroy(p.pool);
    gw_calls_destroy(p.calls);
    gw_queue_destroy(p.queue);
    gw_cloud_answer_fini(&p.answer);
    if (p.loop) event_base_free(p.loop);
    free(types);
    if (err != GW_OK) fprintf(stderr, "cloud_call: %s\n", ctx.text);
    return err != GW_OK || p.err != GW_OK;
}
