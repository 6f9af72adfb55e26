/* token_socket: how long a token takes from the engine's thread to the client's socket, without an engine: this program is the worker of
 * a real controller, and the client of one stream, on a thread of its own. For bench_token.py, which starts the controller.
 *
 * Tokens leave the worker --pace-us apart, so that each is an event of its own; the time of each begins where the engine hands it to its
 * link and ends where the client's recv() returns. Prints `latency_us <median> <90th percentile> <99th>`, and `wake_us <median>`: how
 * long a byte takes through a socket to a thread that sleeps, of which there are two on the way. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "tests/bench/bench_measure.h"
#include "tests/lib/fake_worker.h"

#define TOKENS_MAX   100000
#define WARM         100 /* tokens that do not count */
#define WAKES        500
#define IDLE_WAIT_US 100000
#define TEXT_ID      97 /* 'a', where the vocabulary is bytes */

struct bench {
    struct fake_worker common;
    int64_t http_port, tokens, pace_us;
    struct gw_link *link;
    uint64_t session;
    double sent[TOKENS_MAX], took[TOKENS_MAX];
    int64_t seen; /* events, by the client */
    const char *failure;
};

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static gw_err_t parse(int argc, char **argv, struct bench *b, struct gw_err_ctx *ctx)
{
    bool help = false;
    const struct gw_flag flags[] = {
        FAKE_WORKER_FLAGS(&b->common),
        {"http-port", GW_FLAG_INT, &b->http_port, "PORT", "the controller's, for clients", 1, 65535},
        {"tokens", GW_FLAG_INT, &b->tokens, "N", "that the stream has", 2 * WARM, TOKENS_MAX},
        {"pace-us", GW_FLAG_INT, &b->pace_us, "US", "from token to token", 1, 1000000},
        {0}};
    TRY(gw_args_parse(argc, argv, flags, NULL, 0, NULL, &help, ctx));
    if (help || !fake_worker_is_whole(&b->common) || !b->http_port || !b->tokens || !b->pace_us)
        return gw_fail(ctx, GW_ERR_INPUT, "a flag is missing");
    return GW_OK;
}

/* ---- the client ---- */

static int dial_http(const struct bench *b)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)b->http_port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static bool ask(const struct bench *b, int fd)
{
    char body[256], request[512];
    int body_len =
        snprintf(body, sizeof body,
                 "{\"prompt\":\"a\",\"max_tokens\":%d,\"stream\":true,\"ignore_eos\":true}", (int)b->tokens);
    int len = snprintf(request, sizeof request,
                       "POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                       "Content-Length: %d\r\n\r\n%s",
                       body_len, body);
    return send(fd, request, (size_t)len, MSG_NOSIGNAL) == len;
}

/* Events of one read: lines that begin with `data: {`; what is split between two reads would be missed, and is an error at the end. */
static int64_t count_events(const char *text)
{
    int64_t n = 0;
    for (const char *at = text; (at = strstr(at, "data: {")); at++) n++;
    return n;
}

static void *client(void *arg)
{
    struct bench *b = arg;
    static char text[65536];
    int fd = dial_http(b);
    if (fd < 0 || !ask(b, fd)) b->failure = "no connection to the controller";
    while (!b->failure && b->seen < b->tokens) {
        ssize_t got = recv(fd, text, sizeof text - 1, 0);
        const double at = now_us();
        if (got <= 0) {
            b->failure = "the stream ended early";
            break;
        }
        text[got] = '\0';
        for (int64_t n = count_events(text); n > 0 && b->seen < b->tokens; n--, b->seen++)
            b->took[b->seen] = at - b->sent[b->seen];
    }
    if (fd >= 0) close(fd);
    return NULL;
}

/* ---- the worker ---- */

static void send_token(struct bench *b, const struct gw_msg *submit, uint32_t i)
{
    uint32_t id = TEXT_ID;
    float logprob = 0;
    struct gw_msg m = {.type = GW_MSG_TOKENS,
                       .pipeline = submit->pipeline,
                       .generation = submit->generation,
                       .tokens = {.request = submit->submit.request.id,
                                  .attempt = submit->submit.attempt,
                                  .tokens = {.first = i, .count = 1, .ids = &id, .logprobs = &logprob}}};
    b->sent[i] = now_us();
    gw_link_send(b->link, b->session, &m);
    gw_link_flush(b->link);
}

/* Between tokens it is as busy as an engine is. */
static void answer(struct bench *b, const struct gw_msg *submit)
{
    for (uint32_t i = 0; i < b->tokens; i++) {
        send_token(b, submit, i);
        while (now_us() < b->sent[i] + (double)b->pace_us) _mm_pause();
    }
}

/* True once a request has been answered. */
static bool hear(struct bench *b, struct gw_link_item *item, pthread_t *thread)
{
    bool answered = false;
    if (item->type == GW_LINK_UP) b->session = item->session;
    if (item->type != GW_LINK_MSG) return false;
    if (item->msg.type == GW_MSG_ASSIGN) {
        fake_worker_be_ready(&b->common, b->link, b->session, &item->msg);
        pthread_create(thread, NULL, client, b);
    } else if (item->msg.type == GW_MSG_SUBMIT) {
        answer(b, &item->msg);
        answered = true;
    }
    gw_msg_fini(&item->msg);
    return answered;
}

static gw_err_t run(struct bench *b, struct gw_err_ctx *ctx)
{
    struct gw_link_item item;
    pthread_t thread = 0;
    TRY(fake_worker_prepare(&b->common, ctx));
    TRY(fake_worker_dial(&b->common, 0, &b->link, ctx));
    bool answered = false;
    while (!answered && !b->failure)
        if (gw_link_receive(b->link, IDLE_WAIT_US, &item)) answered = hear(b, &item, &thread);
    pthread_join(thread, NULL);
    if (b->failure) return gw_fail(ctx, GW_ERR_IO, "%s", b->failure);
    return GW_OK;
}

/* ---- what a wake-up takes ---- */

struct wake {
    int fds[2];
    double sent, took[WAKES];
};

static void *sleeper(void *arg)
{
    struct wake *w = arg;
    char byte;
    for (int i = 0; i < WAKES; i++) {
        if (read(w->fds[1], &byte, 1) != 1) return NULL;
        w->took[i] = now_us() - w->sent;
    }
    return NULL;
}

static double measure_wake(int64_t pace_us)
{
    struct wake w = {.fds = {-1, -1}};
    pthread_t thread;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, w.fds) != 0 || pthread_create(&thread, NULL, sleeper, &w) != 0)
        return 0;
    for (int i = 0; i < WAKES; i++) {
        for (double from = now_us(); now_us() < from + (double)pace_us;) _mm_pause();
        w.sent = now_us();
        if (write(w.fds[0], "", 1) != 1) break;
    }
    close(w.fds[0]);
    pthread_join(thread, NULL);
    close(w.fds[1]);
    return bench_median(w.took, WAKES);
}

static void report(struct bench *b)
{
    const size_t n = (size_t)(b->tokens - WARM);
    qsort(b->took + WARM, n, sizeof *b->took, bench_by_value);
    printf("latency_us %.1f %.1f %.1f wake_us %.1f\n", b->took[WARM + n / 2], b->took[WARM + n * 9 / 10],
           b->took[WARM + n * 99 / 100], measure_wake(b->pace_us));
}

int main(int argc, char **argv)
{
    static struct bench b = {.common.log = {.fd = STDERR_FILENO, .level = GW_LOG_WARN, .program = "bench"}};
    struct gw_err_ctx ctx = {0};
    gw_err_t err = parse(argc, argv, &b, &ctx);
    if (err == GW_OK) err = run(&b, &ctx);
    if (b.link) gw_link_destroy(b.link);
    gw_secret_free(b.common.key, b.common.key_len);
    if (err == GW_OK)
        report(&b);
    else
        fprintf(stderr, "token_socket: %s\n", ctx.text);
    return err != GW_OK;
}
