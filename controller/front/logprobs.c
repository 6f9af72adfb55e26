#include "controller/front/logprobs.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

#define LOGPROB_MIN (-9999.0) /* JSON has no infinity; vLLM's stand-in for it */

enum list { CHAT_CONTENT = 0, TOKENS = 0, TOKEN_LOGPROBS, TOP_LOGPROBS, TEXT_OFFSET };

void gw_logprobs_init(struct gw_logprobs *l, enum gw_logprobs_form form, const struct gw_tokenizer *tokenizer,
                      uint32_t top_n, uint64_t offset, size_t max_bytes)
{
    *l = (struct gw_logprobs){.form = form, .tokenizer = tokenizer, .top_n = top_n, .offset = offset};
    for (int i = 0; i < GW_LOGPROBS_LISTS; i++) gw_buf_init(&l->lists[i], max_bytes);
}

void gw_logprobs_fini(struct gw_logprobs *l)
{
    for (int i = 0; i < GW_LOGPROBS_LISTS; i++) gw_buf_fini(&l->lists[i]);
}

static struct gw_buf *next_item(struct gw_logprobs *l, enum list list)
{
    struct gw_buf *b = &l->lists[list];
    if (b->len > 0) gw_buf_u8(b, ',');
    return b;
}

static void put_number(struct gw_buf *b, float logprob)
{
    double v = isfinite(logprob) && (double)logprob > LOGPROB_MIN ? (double)logprob : LOGPROB_MIN;
    gw_buf_printf(b, "%.9g", v); /* nine digits tell any two floats apart */
}

static void put_token(struct gw_buf *b, const struct gw_tokenizer *tokenizer, uint32_t id)
{
    size_t len;
    const char *bytes = gw_tokenizer_bytes(tokenizer, id, &len);
    gw_json_put_string(b, bytes ? bytes : "", bytes ? len : 0);
}

/* "token":…,"logprob":…,"bytes":[…] */
static void put_chat_fields(struct gw_buf *b, const struct gw_tokenizer *tokenizer, uint32_t id,
                            float logprob)
{
    size_t len;
    const char *bytes = gw_tokenizer_bytes(tokenizer, id, &len);
    gw_buf_puts(b, "\"token\":");
    put_token(b, tokenizer, id);
    gw_buf_puts(b, ",\"logprob\":");
    put_number(b, logprob);
    gw_buf_puts(b, ",\"bytes\":[");
    for (size_t i = 0; bytes && i < len; i++) gw_buf_printf(b, "%s%u", i ? "," : "", (unsigned char)bytes[i]);
    gw_buf_u8(b, ']');
}

static void push_chat(struct gw_logprobs *l, uint32_t id, float logprob, const struct gw_top *top,
                      uint32_t top_n)
{
    struct gw_buf *b = next_item(l, CHAT_CONTENT);
    gw_buf_u8(b, '{');
    put_chat_fields(b, l->tokenizer, id, logprob);
    gw_buf_puts(b, ",\"top_logprobs\":[");
    for (uint32_t i = 0; i < top_n; i++) {
        gw_buf_puts(b, i ? ",{" : "{");
        put_chat_fields(b, l->tokenizer, top[i].id, top[i].logprob);
        gw_buf_u8(b, '}');
    }
    gw_buf_puts(b, "]}");
}

struct text {
    const uint8_t *bytes;
    size_t len;
};

static struct text token_text(const struct gw_tokenizer *tokenizer, uint32_t id)
{
    struct text t = {0};
    t.bytes = (const uint8_t *)gw_tokenizer_bytes(tokenizer, id, &t.len);
    if (!t.bytes) t.len = 0;
    return t;
}

/* Takes the first character as it is shown: a malformed byte shows as U+FFFD. */
static struct text take_character(struct text *t)
{
    static const uint8_t replacement[] = {0xEF, 0xBF, 0xBD};
    int n = gw_utf8_sequence(t->bytes, t->len);
    struct text shown = n > 0 ? (struct text){t->bytes, (size_t)n} : (struct text){replacement, 3};
    size_t step = n > 0 ? (size_t)n : 1;
    t->bytes += step;
    t->len -= step;
    return shown;
}

/* Do the two tokens show the same text? Then one object cannot have both as keys; the better one stays. */
static bool same_text(const struct gw_tokenizer *tokenizer, uint32_t a, uint32_t b)
{
    struct text x = token_text(tokenizer, a), y = token_text(tokenizer, b);
    while (x.len > 0 && y.len > 0) {
        struct text p = take_character(&x), q = take_character(&y);
        if (p.len != q.len || memcmp(p.bytes, q.bytes, p.len) != 0) return false;
    }
    return x.len == y.len;
}

static bool shown_before(const struct gw_logprobs *l, const struct gw_top *top, uint32_t len, uint32_t id)
{
    for (uint32_t i = 0; i < len; i++)
        if (top[i].id == id || same_text(l->tokenizer, top[i].id, id)) return true;
    return false;
}

static void put_pair(struct gw_logprobs *l, struct gw_buf *b, bool first, uint32_t id, float logprob)
{
    if (!first) gw_buf_u8(b, ',');
    put_token(b, l->tokenizer, id);
    gw_buf_u8(b, ':');
    put_number(b, logprob);
}

/* The best tokens, and the chosen one if it is not among them (OpenAI: "up to logprobs + 1 elements"). */
static void push_top_map(struct gw_logprobs *l, uint32_t id, float logprob, const struct gw_top *top,
                         uint32_t top_n)
{
    struct gw_buf *b = next_item(l, TOP_LOGPROBS);
    bool first = true;
    gw_buf_u8(b, '{');
    for (uint32_t i = 0; i < top_n; i++) {
        if (shown_before(l, top, i, top[i].id)) continue;
        put_pair(l, b, first, top[i].id, top[i].logprob);
        first = false;
    }
    if (!shown_before(l, top, top_n, id)) put_pair(l, b, first, id, logprob);
    gw_buf_u8(b, '}');
}

static uint64_t characters(const struct gw_tokenizer *tokenizer, uint32_t id)
{
    uint64_t n = 0;
    for (struct text t = token_text(tokenizer, id); t.len > 0; n++) take_character(&t);
    return n;
}

static void push_completions(struct gw_logprobs *l, uint32_t id, float logprob, const struct gw_top *top,
                             uint32_t top_n)
{
    put_token(next_item(l, TOKENS), l->tokenizer, id);
    put_number(next_item(l, TOKEN_LOGPROBS), logprob);
    push_top_map(l, id, logprob, top, top_n);
    gw_buf_printf(next_item(l, TEXT_OFFSET), "%llu", (unsigned long long)l->offset);
    l->offset += characters(l->tokenizer, id);
}

void gw_logprobs_push(struct gw_logprobs *l, uint32_t id, float logprob, const struct gw_top *top,
                      uint32_t top_n)
{
    uint32_t n = !top ? 0 : top_n < l->top_n ? top_n : l->top_n;
    if (l->form == GW_LOGPROBS_CHAT) push_chat(l, id, logprob, top, n);
    if (l->form == GW_LOGPROBS_COMPLETIONS) push_completions(l, id, logprob, top, n);
}

static void take_list(struct gw_logprobs *l, enum list list, const char *name, struct gw_buf *out)
{
    struct gw_buf *b = &l->lists[list];
    gw_buf_printf(out, "\"%s\":[", name);
    gw_buf_put(out, b->data, b->len);
    gw_buf_u8(out, ']');
    gw_buf_reset(b);
}

void gw_logprobs_take(struct gw_logprobs *l, struct gw_buf *out)
{
    if (l->form == GW_LOGPROBS_NONE || l->lists[0].len == 0) {
        gw_buf_puts(out, "null");
        return;
    }
    gw_buf_u8(out, '{');
    if (l->form == GW_LOGPROBS_CHAT) {
        take_list(l, CHAT_CONTENT, "content", out);
    } else {
        take_list(l, TOKENS, "tokens", out);
        gw_buf_u8(out, ',');
        take_list(l, TOKEN_LOGPROBS, "token_logprobs", out);
        gw_buf_u8(out, ',');
        take_list(l, TOP_LOGPROBS, "top_logprobs", out);
        gw_buf_u8(out, ',');
        take_list(l, TEXT_OFFSET, "text_offset", out);
    }
    gw_buf_u8(out, '}');
}

size_t gw_logprobs_bytes(const struct gw_logprobs *l)
{
    size_t n = 0;
    for (int i = 0; i < GW_LOGPROBS_LISTS; i++) n += l->lists[i].len;
    return n;
}

gw_err_t gw_logprobs_error(const struct gw_logprobs *l)
{
    for (int i = 0; i < GW_LOGPROBS_LISTS; i++)
        if (l->lists[i].err != GW_OK) return l->lists[i].err;
    return GW_OK;
}
