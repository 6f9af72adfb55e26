/* OpenAI responses: JSON bodies, and the events of streams.
 *
 *     stream:   data: {chunk}\n\n …   data: {usage chunk}\n\n (if asked for)   data: [DONE]\n\n
 *     error in a stream:   data: {"error": …}\n\n, and no [DONE]
 *
 * Owner: borrows. Thread: any. Units: tokens. Errors: the buffer's sticky error.
 * Source: OpenAI API reference (chat completions and legacy completions, streaming). */
#ifndef GW_CONTROLLER_OPENAI_RESPONSE_H
#define GW_CONTROLLER_OPENAI_RESPONSE_H

#include "controller/front/choice.h"

#define GW_OPENAI_ID_MAX 48

/* What all parts of one answer share. */
struct gw_openai_envelope {
    enum gw_openai_endpoint endpoint;
    char id[GW_OPENAI_ID_MAX];
    int64_t created;
    const char *model;
    bool usage_follows; /* chunks say "usage": null, as OpenAI's do when usage was asked for */
};

struct gw_openai_usage {
    uint64_t prompt_tokens, completion_tokens;
};

/* A fresh random id: "chatcmpl-…" or "cmpl-…". */
void gw_openai_envelope_init(struct gw_openai_envelope *e, enum gw_openai_endpoint endpoint,
                             const char *model, int64_t created);

/* The first chunk of a chat choice: the role. */
void gw_openai_put_role_event(struct gw_buf *b, const struct gw_openai_envelope *e, uint32_t index);
/* A chunk with text, and with the logprobs that c holds (they are taken). */
void gw_openai_put_text_event(struct gw_buf *b, const struct gw_openai_envelope *e, uint32_t index,
                              const void *text, size_t len, struct gw_choice *c);
/* The last chunk of a choice. */
void gw_openai_put_finish_event(struct gw_buf *b, const struct gw_openai_envelope *e, uint32_t index,
                                enum gw_finish reason);
void gw_openai_put_usage_event(struct gw_buf *b, const struct gw_openai_envelope *e,
                               const struct gw_openai_usage *usage);
void gw_openai_put_done_event(struct gw_buf *b);
void gw_openai_put_error_event(struct gw_buf *b, const struct gw_openai_error *error);

/* A whole body: begin, each choice in turn (its logprobs are taken), end. */
void gw_openai_put_body_begin(struct gw_buf *b, const struct gw_openai_envelope *e);
void gw_openai_put_body_choice(struct gw_buf *b, const struct gw_openai_envelope *e, uint32_t index,
                               struct gw_choice *c);
void gw_openai_put_body_end(struct gw_buf *b, const struct gw_openai_usage *usage);

/* {"id", "object": "model", …} */
void gw_openai_put_model(struct gw_buf *b, const struct gw_openai_model *model, int64_t created);

#endif
