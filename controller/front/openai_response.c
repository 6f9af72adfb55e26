#include "controller/front/openai_response.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/rng.h"

#define ID_RANDOM_BYTES 16

void gw_openai_envelope_init(struct gw_openai_envelope *e, enum gw_openai_endpoint endpoint,
                             const char *model, int64_t created)
{
    uint8_t random[ID_RANDOM_BYTES];
    char hex[2 * ID_RANDOM_BYTES + 1];
    *e = (struct gw_openai_envelope){.endpoint = endpoint, .created = created, .model = model};
    gw_random_bytes(random, sizeof random);
    gw_hex(random, sizeof random, hex);
    snprintf(e->id, sizeof e->id, "%s-%s", endpoint == GW_OPENAI_CHAT ? "chatcmpl" : "cmpl", hex);
}

static const char *finish_name(enum gw_finish reason)
{
    return reason == GW_FINISH_LENGTH ? "length" : "stop";
}

static void put_head(struct gw_buf *b, const struct gw_openai_envelope *e, const char *object)
{
    gw_buf_printf(b, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", e->id, object,
                  (long long)e->created);
    gw_json_put_string(b, e->model, strlen(e->model));
}

static void put_usage(struct gw_buf *b, const struct gw_openai_usage *u)
{
    gw_buf_printf(b, ",\"usage\":{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,\"total_tokens\":%llu}",
                  (unsigned long long)u->prompt_tokens, (unsigned long long)u->completion_tokens,
                  (unsigned long long)(u->prompt_tokens + u->completion_tokens));
}

/* ---- events -------------------------------------------------------------------------------------------- */

static void begin_event(struct gw_buf *b, const struct gw_openai_envelope *e)
{
    gw_buf_puts(b, "data: ");
    put_head(b, e, e->endpoint == GW_OPENAI_CHAT ? "chat.completion.chunk" : "text_completion");
}

static void begin_chunk(struct gw_buf *b, const struct gw_openai_envelope *e, uint32_t index)
{
    begin_event(b, e);
    gw_buf_printf(b, ",\"choices\":[{\"index\":%u,", index);
}

static void end_chunk(struct gw_buf *b, const struct gw_openai_envelope *e, const char *finish)
{
    if (finish)
        gw_buf_printf(b, ",\"finish_reason\":\"%s\"}]", finish);
    else
        gw_buf_puts(b, ",\"finish_reason\":null}]");
    if (e->usage_follows) gw_buf_puts(b, ",\"usage\":null");
    gw_buf_puts(b, "}\n\n");
}

void gw_openai_put_role_event(struct gw_buf *b, const struct gw_openai_envelope *e, uint32_t index)
{
    begin_chunk(b, e, index);
    gw_buf_puts(b, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null");
    end_chunk(b, e, NULL);
}

void gw_openai_put_text_event(struct gw_buf *b, const struct gw_openai_envelope *e, uint32_t index,
                              const void *text, size_t len, struct gw_choice *c)
{
    bool chat = e->endpoint == GW_OPENAI_CHAT;
    begin_chunk(b, e, index);
    gw_buf_puts(b, chat ? "\"delta\":{\"content\":" : "\"text\":");
    gw_json_put_string(b, text, len);
    gw_buf_puts(b, chat ? "},\"logprobs\":" : ",\"logprobs\":");
    gw_logprobs_take(&c->logprobs, b);
    end_chunk(b, e, NULL);
}

void gw_openai_put_finish_event(struct gw_buf *b, const struct gw_openai_envelope *e, uint32_t index,
                                enum gw_finish reason)
{
    begin_chunk(b, e, index);
    gw_buf_puts(b, e->endpoint == GW_OPENAI_CHAT ? "\"delta\":{},\"logprobs\":null"
                                                 : "\"text\":\"\",\"logprobs\":null");
    end_chunk(b, e, finish_name(reason));
}

void gw_openai_put_usage_event(struct gw_buf *b, const struct gw_openai_envelope *e,
                               const struct gw_openai_usage *usage)
{
    begin_event(b, e);
    gw_buf_puts(b, ",\"choices\":[]");
    put_usage(b, usage);
    gw_buf_puts(b, "}\n\n");
}

void gw_openai_put_done_event(struct gw_buf *b)
{
    gw_buf_puts(b, "data: [DONE]\n\n");
}

void gw_openai_put_error_event(struct gw_buf *b, const struct gw_openai_error *error)
{
    gw_buf_puts(b, "data: ");
    gw_openai_error_put(b, error);
    gw_buf_puts(b, "\n\n");
}

/* ---- whole bodies -------------------------------------------------------------------------------------- */

void gw_openai_put_body_begin(struct gw_buf *b, const struct gw_openai_envelope *e)
{
    put_head(b, e, e->endpoint == GW_OPENAI_CHAT ? "chat.completion" : "text_completion");
    gw_buf_puts(b, ",\"choices\":[");
}

void gw_openai_put_body_choice(struct gw_buf *b, const struct gw_openai_envelope *e, uint32_t index,
                               struct gw_choice *c)
{
    bool chat = e->endpoint == GW_OPENAI_CHAT;
    gw_buf_printf(b, "%s{\"index\":%u,", index ? "," : "", index);
    gw_buf_puts(b, chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
    gw_json_put_string(b, (const char *)c->text.data, c->text.len);
    gw_buf_puts(b, chat ? "},\"logprobs\":" : ",\"logprobs\":");
    gw_logprobs_take(&c->logprobs, b);
    gw_buf_printf(b, ",\"finish_reason\":\"%s\"}", finish_name(c->finish));
}

void gw_openai_put_body_end(struct gw_buf *b, const struct gw_openai_usage *usage)
{
    gw_buf_puts(b, "]");
    put_usage(b, usage);
    gw_buf_puts(b, "}");
}

void gw_openai_put_model(struct gw_buf *b, const struct gw_openai_model *model, int64_t created)
{
    gw_buf_puts(b, "{\"id\":");
    gw_json_put_string(b, model->name, strlen(model->name));
    gw_buf_printf(b, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"godwit\",\"max_model_len\":%u}",
                  (long long)created, model->context);
}
