#include "cloud/source_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define DATE_RESOLUTION_MS 1500 /* a Date header is cut to seconds */
#define DOUBLINGS_MAX      8

const char *gw_cloud_notice_name(enum gw_cloud_notice_kind kind)
{
    static const char *const names[GW_CLOUD_NOTICE_KINDS] = {"preempt", "maintenance", "scale-in",
                                                             "rebalance"};
    return kind < GW_CLOUD_NOTICE_KINDS ? names[kind] : "?";
}

const struct gw_source_ops *gw_source_find(const char *name)
{
    static const struct gw_source_ops *const all[] = {&gw_source_aws, &gw_source_gcp, &gw_source_azure,
                                                      &gw_source_sim};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}

void source_init(struct source_base *b, const struct gw_source_config *config, const char *default_url)
{
    b->config = *config;
    snprintf(b->base_url, sizeof b->base_url, "%s", config->base_url ? config->base_url : default_url);
    snprintf(b->instance, sizeof b->instance, "%s", config->instance ? config->instance : "");
    gw_rng_init(&b->rng, config->seed);
}

/* ---- telling ------------------------------------------------------------------------------------------- */

static size_t trimmed(const char *text, size_t len)
{
    while (len && isspace((unsigned char)text[len - 1])) len--;
    return len;
}

/* The first bytes of what was said, on one line. */
static void put_raw(char out[GW_CLOUD_RAW_MAX + 1], const struct gw_web_reply *reply)
{
    size_t len = reply ? trimmed(reply->body, reply->body_len) : 0;
    if (len > GW_CLOUD_RAW_MAX) len = GW_CLOUD_RAW_MAX;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)reply->body[i];
        out[i] = isprint(c) ? (char)c : ' ';
    }
    out[len] = '\0';
}

static void tell(struct source_base *b, enum gw_cloud_notice_kind kind, bool cancel, int64_t deadline_us,
                 const struct gw_web_reply *reply)
{
    struct gw_cloud_notice n = {.kind = kind, .cancel = cancel, .deadline_us = deadline_us};
    memcpy(n.instance, b->instance, sizeof n.instance);
    put_raw(n.raw, reply);
    b->config.sink.notice(b->config.sink.arg, &n);
}

static bool moved(int64_t a_us, int64_t b_us)
{
    return a_us - b_us >= GW_SOURCE_MOVED_US || b_us - a_us >= GW_SOURCE_MOVED_US;
}

void source_present(struct source_base *b, struct source_slot *slot, enum gw_cloud_notice_kind kind,
                    int64_t deadline_us, const struct gw_web_reply *reply)
{
    slot->absent = 0;
    if (slot->told && !moved(slot->deadline_us, deadline_us)) return;
    slot->told = true;
    slot->deadline_us = deadline_us;
    tell(b, kind, false, deadline_us, reply);
}

void source_absent(struct source_base *b, struct source_slot *slot, enum gw_cloud_notice_kind kind)
{
    if (!slot->told || ++slot->absent < GW_SOURCE_ABSENT_MIN) return;
    *slot = (struct source_slot){0};
    tell(b, kind, true, 0, NULL);
}

void source_odd(struct source_base *b, int doc, const char *what, const struct gw_web_reply *reply)
{
    char raw[GW_CLOUD_RAW_MAX + 1];
    if (b->odd[doc]++) return;
    put_raw(raw, reply);
    gw_logf(
        b->config.log, GW_LOG_WARN,
        "%s: an answer that is not as documented, status %d, %zu bytes: '%s' (more of these are counted, not "
        "logged)",
        what, reply->status, reply->body_len, raw);
}

/* ---- times --------------------------------------------------------------------------------------------- */

int64_t source_jitter_us(struct source_base *b, int64_t span_us)
{
    return span_us * 9 / 10 + (int64_t)gw_rng_below(&b->rng, (uint64_t)(span_us / 5 + 1));
}

bool source_failed(const struct gw_web_reply *reply)
{
    return (reply->err != GW_OK && reply->err != GW_ERR_LIMIT) || reply->status == 429 ||
           reply->status / 100 == 5;
}

int64_t source_backoff_us(struct source_base *b, int64_t first_us, const struct gw_web_reply *reply)
{
    unsigned doublings = b->failures < DOUBLINGS_MAX ? b->failures : DOUBLINGS_MAX;
    int64_t us = first_us << doublings, asked_us = (int64_t)reply->retry_after_s * GW_US_PER_S;
    b->failures++;
    if (us < asked_us) us = asked_us;
    if (us > GW_SOURCE_BACKOFF_MAX_US) us = GW_SOURCE_BACKOFF_MAX_US;
    return source_jitter_us(b, us);
}

int64_t source_deadline_us(struct gw_source_now now, const struct gw_web_reply *reply, int64_t unix_ms)
{
    int64_t now_ms = now.unix_ms, off_ms = reply->date_unix_ms - now_ms;
    if (reply->date_unix_ms && (off_ms > DATE_RESOLUTION_MS || off_ms < -DATE_RESOLUTION_MS))
        now_ms = reply->date_unix_ms;
    return now.mono_us + (unix_ms - now_ms) * GW_US_PER_MS;
}

/* ---- texts --------------------------------------------------------------------------------------------- */

bool source_take_instance(struct source_base *b, const char *text, size_t len)
{
    len = trimmed(text, len);
    if (len == 0 || len >= sizeof b->instance) return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && !memchr("._:-", text[i], 4)) return false;
    memcpy(b->instance, text, len);
    b->instance[len] = '\0';
    return true;
}

void source_ask(const struct source_base *b, const char *path, char *url, struct gw_web_request *out)
{
    snprintf(url, SOURCE_URL_MAX, "%s%s", b->base_url, path);
    *out = (struct gw_web_request){.method = "GET",
                                   .url = url,
                                   .timeout_us = SOURCE_TIMEOUT_US,
                                   .body_max = GW_SOURCE_BODY_MAX,
                                   .direct = true};
}

bool source_body_is(const struct gw_web_reply *reply, const char *text)
{
    size_t len = trimmed(reply->body, reply->body_len);
    return len == strlen(text) && memcmp(reply->body, text, len) == 0;
}
