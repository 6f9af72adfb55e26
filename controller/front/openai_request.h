/* OpenAI requests: a JSON body becomes prompts of token ids, sampling parameters, and what the front must
 * remember about the form of the answer.
 *
 *     body ─ JSON ─ model? ─ fields ─ messages → template → tokenizer ─► struct gw_openai_request
 *                                   └ prompt(s) ───────────┘             └► per prompt one struct gw_request
 *
 * Unknown fields are accepted. What would change the answer and is not built yet (tools, JSON schemas, …) is
 * refused by name, so that nobody takes a plain answer for a constrained one.
 *
 * Owner: create by parse, gw_openai_request_destroy. Thread: parse is pure and slow: pool threads run it.
 * Units: tokens, bytes. Errors: *error says what the client is told.
 * Source: OpenAI API reference; vLLM's additional parameters. */
#ifndef GW_CONTROLLER_OPENAI_REQUEST_H
#define GW_CONTROLLER_OPENAI_REQUEST_H

#include "controller/front/openai_error.h"
#include "controller/text/chat_template.h"
#include "controller/text/detok.h"
#include "controller/text/stops.h"
#include "controller/text/tokenizer.h"
#include "migrate/request.h"

#define GW_OPENAI_PROMPTS_MAX 256  /* prompts in one completions request */
#define GW_OPENAI_CHOICES_MAX 1024 /* prompts × n */

/* The model served. */
struct gw_openai_model {
    const char *name;
    const struct gw_tokenizer *tokenizer;
    const struct gw_chat_template *chat; /* NULL: no chat */
    uint32_t vocab, context;
};

enum gw_openai_endpoint { GW_OPENAI_CHAT = 1, GW_OPENAI_COMPLETIONS };

struct gw_openai_options {
    enum gw_openai_endpoint endpoint;
    bool stream, include_usage;
    bool echo;         /* completions: the prompt's text comes first */
    bool include_stop; /* stop strings and stop ids show in the text */
    bool skip_special; /* special tokens do not */
    uint32_t n;
    char *stop[GW_STOPS_MAX];
    int stop_len;
};

struct gw_openai_prompt {
    uint32_t *ids;
    uint32_t len;
    uint64_t seed;
    uint32_t max_tokens;
    char *text; /* for echo, else NULL */
    size_t text_len;
};

struct gw_openai_request {
    struct gw_openai_options options;
    struct gw_sampling sampling; /* seed and max_tokens are the prompt's */
    struct gw_openai_prompt *prompts;
    uint32_t prompts_len;
};

/* On error *out is unchanged and *error is filled. */
gw_err_t gw_openai_request_parse(const struct gw_openai_model *model, enum gw_openai_endpoint endpoint,
                                 const void *body, size_t len, struct gw_openai_request **out,
                                 struct gw_openai_error *error) GW_MUST_USE;
void gw_openai_request_destroy(struct gw_openai_request *r);

/* The core's request for one prompt; the caller owns it. */
gw_err_t gw_openai_request_core(const struct gw_openai_request *r, uint32_t prompt, uint64_t id,
                                const uint8_t tenant[GW_REQUEST_TENANT_BYTES],
                                struct gw_request **out) GW_MUST_USE;

/* Parses a body that must be a JSON object, and checks its "model" (404 when it names another one). */
gw_err_t gw_openai_body_parse(const struct gw_openai_model *model, const void *body, size_t len, cJSON **out,
                              struct gw_openai_error *error) GW_MUST_USE;

#endif
