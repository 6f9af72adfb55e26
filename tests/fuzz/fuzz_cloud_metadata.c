/* Notice sources: whatever a metadata service answers, to whatever it is asked, a source survives; a notice that comes
 * out names this instance, and none is taken back that was not made.
 *
 * Input: which source, then answers, each a byte for status and headers, two for the length, and the body. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud/source.h"
#include "tests/fuzz/fuzz.h"

#define ANSWERS_MAX 64

struct world {
    bool told[GW_CLOUD_NOTICE_KINDS];
    const char *instance;
};

static void on_notice(void *arg, const struct gw_cloud_notice *n)
{
    struct world *w = arg;
    assert(n->kind < GW_CLOUD_NOTICE_KINDS);
    assert(n->instance[0] && strlen(n->instance) < GW_CLOUD_INSTANCE_MAX &&
           strlen(n->raw) <= GW_CLOUD_RAW_MAX);
    assert(!n->cancel || w->told[n->kind]);
    w->told[n->kind] = !n->cancel;
}

static struct gw_web_reply reply_of(uint8_t flags, char *body, size_t len)
{
    static const int statuses[] = {200, 200, 200, 404, 401, 429, 503, 302};
    struct gw_web_reply r = {.why = "", .status = statuses[flags & 7], .body = body, .body_len = len};
    r.google = flags & 8;
    if (flags & 16) memcpy(r.etag, "a1b2", 5);
    if (flags & 32) r.date_unix_ms = 1505722920000;
    if (flags & 64) r.err = flags & 128 ? GW_ERR_LIMIT : GW_ERR_IO;
    return r;
}

static void play(const struct gw_source_ops *ops, void *source, const uint8_t *bytes, size_t len)
{
    struct gw_source_now now = {.mono_us = GW_US_PER_S, .unix_ms = 1505722920000};
    for (int n = 0; n < ANSWERS_MAX && len >= 3; n++) {
        struct gw_web_request request;
        int lane = n % ops->lanes;
        size_t body_len = bytes[1] | (size_t)bytes[2] << 8;
        if (body_len > len - 3) body_len = len - 3;
        char *body = malloc(body_len + 1);
        memcpy(body, bytes + 3, body_len);
        body[body_len] = '\0';
        int64_t due_us = ops->next(source, lane, now, &request);
        if (due_us < INT64_MAX) {
            if (due_us > now.mono_us) now.mono_us = due_us;
            (void)ops->next(source, lane, now, &request);
            struct gw_web_reply reply = reply_of(bytes[0], body, body_len);
            ops->hear(source, lane, now, &reply);
            if (ops->drained && bytes[0] == 255) ops->drained(source);
        }
        free(body);
        bytes += 3 + body_len;
        len -= 3 + body_len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const struct gw_source_ops *const all[] = {&gw_source_aws, &gw_source_gcp, &gw_source_azure,
                                                      &gw_source_sim};
    struct world w = {{false}, NULL};
    void *source;
    if (len == 0) return 0;
    const struct gw_source_ops *ops = all[bytes[0] & 3];
    const struct gw_source_config config = {.base_url = "http://127.0.0.1:9",
                                            .instance = ops == &gw_source_sim || bytes[0] & 4 ? "i-1" : NULL,
                                            .sink = {on_notice, &w}};
    if (ops->create(&config, &source) != GW_OK) return 0;
    play(ops, source, bytes + 1, len - 1);
    ops->destroy(source);
    return 0;
}
