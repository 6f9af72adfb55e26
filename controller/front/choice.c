#include "controller/front/choice.h"

static enum gw_logprobs_form logprobs_form(const struct gw_openai_options *o, const struct gw_sampling *s)
{
    if (!s->logprobs) return GW_LOGPROBS_NONE;
    return o->endpoint == GW_OPENAI_CHAT ? GW_LOGPROBS_CHAT : GW_LOGPROBS_COMPLETIONS;
}

gw_err_t gw_choice_init(struct gw_choice *c, const struct gw_tokenizer *tokenizer,
                        const struct gw_openai_options *options, const struct gw_sampling *sampling)
{
    *c = (struct gw_choice){.sampling = sampling, .include_stop = options->include_stop};
    gw_detok_init(&c->detok, tokenizer, options->skip_special);
    gw_buf_init(&c->fresh, GW_CHOICE_TEXT_MAX);
    gw_buf_init(&c->text, GW_CHOICE_TEXT_MAX);
    gw_logprobs_init(&c->logprobs, logprobs_form(options, sampling), tokenizer, sampling->top_logprobs, 0,
                     GW_CHOICE_TEXT_MAX);
    return gw_stops_init(&c->stops, (const char *const *)options->stop, options->stop_len,
                         options->include_stop);
}

void gw_choice_fini(struct gw_choice *c)
{
    gw_stops_fini(&c->stops);
    gw_buf_fini(&c->fresh);
    gw_buf_fini(&c->text);
    gw_logprobs_fini(&c->logprobs);
}

static gw_err_t error_of(const struct gw_choice *c)
{
    if (c->fresh.err != GW_OK) return c->fresh.err;
    if (c->stops.held.err != GW_OK) return c->stops.held.err;
    if (c->text.err != GW_OK) return c->text.err;
    return gw_logprobs_error(&c->logprobs);
}

/* Moves fresh text to where it may be sent. Text below min_tokens is not searched: an ending there would
 * break the promise of so many tokens. */
static void show(struct gw_choice *c, bool search)
{
    const char *fresh = (const char *)c->fresh.data;
    if (!search) {
        gw_buf_put(&c->text, fresh, c->fresh.len);
    } else if (c->fresh.len > 0 && gw_stops_push(&c->stops, fresh, c->fresh.len, &c->text)) {
        c->stopped = true;
        c->finish = GW_FINISH_STOP;
    }
    gw_buf_reset(&c->fresh);
}

static void push_record(struct gw_choice *c, const struct gw_tokens *t, uint32_t i)
{
    uint32_t position = c->kept++, id = t->ids[i];
    bool stop_id = gw_request_finish_at(c->sampling, position, id) == GW_FINISH_STOP;
    bool shown = !stop_id || c->include_stop;
    if (shown) gw_detok_push(&c->detok, id, &c->fresh);
    if (shown && c->logprobs.form != GW_LOGPROBS_NONE)
        gw_logprobs_push(&c->logprobs, id, t->logprobs ? t->logprobs[i] : 0,
                         t->top ? t->top + (size_t)i * t->top_n : NULL, t->top_n);
    show(c, position >= c->sampling->min_tokens);
}

gw_err_t gw_choice_feed(struct gw_choice *c, const struct gw_tokens *tokens)
{
    if (c->finish != GW_FINISH_NONE) return GW_OK;
    if (tokens->first > c->kept) return GW_ERR_PROTO;
    for (uint32_t i = c->kept - tokens->first; i < tokens->count && c->finish == GW_FINISH_NONE; i++)
        push_record(c, tokens, i);
    return error_of(c);
}

gw_err_t gw_choice_end(struct gw_choice *c, enum gw_finish reason)
{
    c->stopped = false; /* the core has ended the branch by itself */
    if (c->finish != GW_FINISH_NONE) return GW_OK;
    gw_detok_finish(&c->detok, &c->fresh);
    show(c, c->kept > c->sampling->min_tokens);
    if (c->finish == GW_FINISH_NONE) gw_stops_flush(&c->stops, &c->text);
    c->stopped = false;
    if (c->finish == GW_FINISH_NONE) c->finish = reason;
    return error_of(c);
}

size_t gw_choice_bytes(const struct gw_choice *c)
{
    return c->text.len + c->stops.held.len + gw_logprobs_bytes(&c->logprobs);
}
