#include "controller/front/stream_codec.h"

#include <stdlib.h>
#include <string.h>

#define TYPE_BEGIN  1
#define TYPE_TOKENS 2
#define VERSION     1

enum { FLAG_USAGE = 1, FLAG_ECHO = 2, FLAG_INCLUDE_STOP = 4, FLAG_SKIP_SPECIAL = 8, FLAGS_ALL = 15 };

/* ---- BEGIN, writing ---- */

static uint8_t flags_of(const struct gw_openai_options *o)
{
    return (uint8_t)((o->include_usage ? FLAG_USAGE : 0) | (o->echo ? FLAG_ECHO : 0) |
                     (o->include_stop ? FLAG_INCLUDE_STOP : 0) | (o->skip_special ? FLAG_SKIP_SPECIAL : 0));
}

static gw_err_t put_prompt(struct gw_buf *b, const struct gw_stream_begin *begin, uint32_t i)
{
    const struct gw_openai_prompt *p = &begin->request->prompts[i];
    struct gw_request *q = NULL;
    struct gw_buf payload;
    TRY(gw_openai_request_core(begin->request, i, begin->ids[i], begin->tenant, &q));
    struct gw_msg m = {.type = GW_MSG_SUBMIT, .submit = {.attempt = 1, .request = *q}};
    m.submit.logs = calloc(q->n, sizeof *m.submit.logs);
    gw_buf_init(&payload, GW_STREAM_PIECE_MAX);
    gw_err_t err = m.submit.logs ? GW_OK : GW_ERR_MEMORY;
    if (err == GW_OK) {
        gw_msg_encode(&m, &payload);
        err = payload.err;
    }
    if (err == GW_OK) {
        gw_buf_bytes(b, payload.data, payload.len);
        gw_buf_bytes(b, p->text, p->text_len);
    }
    gw_buf_fini(&payload);
    free(m.submit.logs);
    gw_request_destroy(q);
    return err;
}

gw_err_t gw_stream_put_begin(struct gw_buf *b, const struct gw_stream_begin *begin)
{
    const struct gw_openai_request *r = begin->request;
    gw_buf_u8(b, TYPE_BEGIN);
    gw_buf_u8(b, VERSION);
    gw_buf_u8(b, (uint8_t)r->options.endpoint);
    gw_buf_u8(b, flags_of(&r->options));
    gw_buf_u64(b, (uint64_t)begin->created);
    gw_buf_put(b, begin->fingerprint, GW_FINGERPRINT_BYTES);
    gw_buf_bytes(b, begin->id, strlen(begin->id));
    gw_buf_u32(b, (uint32_t)r->options.stop_len);
    for (int i = 0; i < r->options.stop_len; i++)
        gw_buf_bytes(b, r->options.stop[i], strlen(r->options.stop[i]));
    gw_buf_u32(b, r->prompts_len);
    for (uint32_t i = 0; i < r->prompts_len; i++) TRY(put_prompt(b, begin, i));
    return b->err;
}

/* ---- BEGIN, reading ---- */

static gw_err_t get_id(struct gw_reader *r, char id[GW_OPENAI_ID_MAX])
{
    const uint8_t *text;
    size_t len = gw_read_bytes(r, GW_OPENAI_ID_MAX - 1, &text);
    if (r->err != GW_OK || len == 0) return GW_ERR_PROTO;
    for (size_t i = 0; i < len; i++) {
        bool good =
            (text[i] >= 'a' && text[i] <= 'z') || (text[i] >= '0' && text[i] <= '9') || text[i] == '-';
        if (!good) return GW_ERR_PROTO;
    }
    memcpy(id, text, len);
    id[len] = '\0';
    return GW_OK;
}

static gw_err_t get_stops(struct gw_reader *r, struct gw_openai_options *o)
{
    uint32_t count = gw_read_count(r, GW_STOPS_MAX, 5);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *text;
        size_t len = gw_read_bytes(r, GW_STOPS_BYTES_MAX, &text);
        if (r->err != GW_OK || len == 0 || memchr(text, '\0', len)) return GW_ERR_PROTO;
        char *copy = strndup((const char *)text, len);
        if (!copy) return GW_ERR_MEMORY;
        o->stop[o->stop_len++] = copy;
    }
    return r->err;
}

/* Takes the prompt's own out of a decoded SUBMIT; the first one's sampling becomes that of all. */
static gw_err_t take_prompt(struct gw_stream_begin *out, uint32_t i, struct gw_request *q)
{
    struct gw_openai_request *r = out->request;
    struct gw_openai_prompt *p = &r->prompts[i];
    if (i == 0) {
        r->options.n = q->n;
        r->sampling = q->sampling;
        q->sampling.stop_ids = NULL;
        q->sampling.bias = NULL;
        memcpy(out->tenant, q->tenant, sizeof out->tenant);
    }
    if (q->id == 0 || q->n != r->options.n || memcmp(q->tenant, out->tenant, sizeof out->tenant) != 0)
        return GW_ERR_PROTO;
    out->ids[i] = q->id;
    p->ids = q->prompt;
    q->prompt = NULL;
    p->len = q->prompt_len;
    p->seed = q->sampling.seed;
    p->max_tokens = q->sampling.max_tokens;
    return GW_OK;
}

static gw_err_t get_prompt(struct gw_reader *r, struct gw_stream_begin *out, uint32_t i)
{
    struct gw_openai_prompt *p = &out->request->prompts[i];
    const uint8_t *payload, *text;
    struct gw_msg m;
    size_t len = gw_read_bytes(r, GW_FRAME_PAYLOAD_MAX, &payload);
    p->text_len = gw_read_bytes(r, GW_STREAM_PIECE_MAX, &text);
    if (r->err != GW_OK) return GW_ERR_PROTO;
    const struct gw_frame frame = {.type = GW_MSG_SUBMIT, .len = (uint32_t)len, .payload = payload};
    TRY(gw_msg_decode(&frame, &m, NULL));
    gw_err_t err = take_prompt(out, i, &m.submit.request);
    gw_msg_fini(&m);
    if (err != GW_OK || p->text_len == 0) return err;
    p->text = malloc(p->text_len);
    if (!p->text) return GW_ERR_MEMORY;
    memcpy(p->text, text, p->text_len);
    return GW_OK;
}

static gw_err_t get_prompts(struct gw_reader *r, struct gw_stream_begin *out)
{
    uint32_t count = gw_read_count(r, GW_OPENAI_PROMPTS_MAX, 8);
    if (r->err != GW_OK || count == 0) return GW_ERR_PROTO;
    out->request->prompts = calloc(count, sizeof *out->request->prompts);
    out->ids = calloc(count, sizeof *out->ids);
    if (!out->request->prompts || !out->ids) return GW_ERR_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        out->request->prompts_len = i + 1;
        TRY(get_prompt(r, out, i));
    }
    bool many = (uint64_t)count * out->request->options.n > GW_OPENAI_CHOICES_MAX;
    return many ? GW_ERR_PROTO : gw_reader_finish(r);
}

static gw_err_t get_all(struct gw_reader *r, struct gw_stream_begin *out)
{
    struct gw_openai_options *o = &out->request->options;
    uint8_t type = gw_read_u8(r), version = gw_read_u8(r), endpoint = gw_read_u8(r), flags = gw_read_u8(r);
    out->created = (int64_t)gw_read_u64(r);
    const uint8_t *fingerprint = gw_read_raw(r, GW_FINGERPRINT_BYTES);
    bool good = type == TYPE_BEGIN && version == VERSION && flags <= FLAGS_ALL &&
                (endpoint == GW_OPENAI_CHAT || endpoint == GW_OPENAI_COMPLETIONS);
    if (r->err != GW_OK || !good) return GW_ERR_PROTO;
    memcpy(out->fingerprint, fingerprint, GW_FINGERPRINT_BYTES);
    o->endpoint = (enum gw_openai_endpoint)endpoint;
    o->stream = true;
    o->include_usage = flags & FLAG_USAGE;
    o->echo = flags & FLAG_ECHO;
    o->include_stop = flags & FLAG_INCLUDE_STOP;
    o->skip_special = flags & FLAG_SKIP_SPECIAL;
    TRY(get_id(r, out->id));
    TRY(get_stops(r, o));
    return get_prompts(r, out);
}

gw_err_t gw_stream_get_begin(const void *piece, size_t len, struct gw_stream_begin *out)
{
    struct gw_stream_begin begin = {.request = calloc(1, sizeof *begin.request)};
    struct gw_reader r;
    if (!begin.request) return GW_ERR_MEMORY;
    gw_reader_init(&r, piece, len);
    gw_err_t err = get_all(&r, &begin);
    if (err == GW_OK)
        *out = begin;
    else
        gw_stream_begin_fini(&begin);
    return err;
}

void gw_stream_begin_fini(struct gw_stream_begin *begin)
{
    gw_openai_request_destroy(begin->request);
    free(begin->ids);
    *begin = (struct gw_stream_begin){0};
}

/* ---- TOKENS ---- */

void gw_stream_put_tokens(struct gw_buf *b, uint64_t request, uint32_t branch, const char *profile,
                          const struct gw_tokens *tokens)
{
    const struct gw_msg m = {
        .type = GW_MSG_TOKENS,
        .tokens = {.request = request, .attempt = 1, .branch = branch, .tokens = *tokens}};
    gw_buf_u8(b, TYPE_TOKENS);
    gw_buf_bytes(b, profile, strlen(profile));
    gw_msg_encode(&m, b);
}

gw_err_t gw_stream_get_tokens(const void *piece, size_t len, struct gw_stream_tokens *out)
{
    struct gw_reader r;
    const uint8_t *profile;
    gw_reader_init(&r, piece, len);
    uint8_t type = gw_read_u8(&r);
    size_t profile_len = gw_read_bytes(&r, GW_WIRE_NAME_MAX, &profile);
    if (r.err != GW_OK || type != TYPE_TOKENS || len - r.pos > GW_FRAME_PAYLOAD_MAX) return GW_ERR_PROTO;
    if (profile_len > 0 && memchr(profile, '\0', profile_len)) return GW_ERR_PROTO;
    const struct gw_frame frame = {
        .type = GW_MSG_TOKENS, .len = (uint32_t)(len - r.pos), .payload = (const uint8_t *)piece + r.pos};
    TRY(gw_msg_decode(&frame, &out->msg, NULL));
    memcpy(out->profile, profile, profile_len);
    out->profile[profile_len] = '\0';
    return GW_OK;
}
