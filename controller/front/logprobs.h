/* Logprobs of one choice, in the two forms of OpenAI's API, written as records come.
 *
 *     chat:         {"content": [{"token", "logprob", "bytes", "top_logprobs": [{…}]}]}
 *     completions:  {"tokens": […], "token_logprobs": […], "top_logprobs": [{token: logprob}], "text_offset":
 * […]}
 *
 * A token whose bytes are no whole characters shows them as U+FFFD in its text; `bytes` has them as they are.
 * text_offset counts characters of token texts.
 *
 * Owner: init/fini. Thread: the loop's. Units: bytes of JSON. Errors: sticky, in gw_logprobs_error.
 * Source: OpenAI API reference; vLLM where it is silent. */
#ifndef GW_CONTROLLER_LOGPROBS_H
#define GW_CONTROLLER_LOGPROBS_H

#include "base/buf.h"
#include "controller/text/tokenizer.h"
#include "migrate/request.h"

enum gw_logprobs_form { GW_LOGPROBS_NONE = 0, GW_LOGPROBS_CHAT, GW_LOGPROBS_COMPLETIONS };

#define GW_LOGPROBS_LISTS 4

struct gw_logprobs {
    enum gw_logprobs_form form;
    const struct gw_tokenizer *tokenizer;
    uint32_t top_n;  /* asked for; records may carry more */
    uint64_t offset; /* characters so far */
    struct gw_buf
        lists[GW_LOGPROBS_LISTS]; /* items behind one another, commas between; chat uses the first */
};

/* offset: characters before the first token (an echoed prompt). max_bytes bounds each list. */
void gw_logprobs_init(struct gw_logprobs *l, enum gw_logprobs_form form, const struct gw_tokenizer *tokenizer,
                      uint32_t top_n, uint64_t offset, size_t max_bytes);
void gw_logprobs_fini(struct gw_logprobs *l);

/* Adds one record; top has top_n entries, best first (NULL with 0). */
void gw_logprobs_push(struct gw_logprobs *l, uint32_t id, float logprob, const struct gw_top *top,
                      uint32_t top_n);

/* Appends the JSON value ("null" without a form or without records) and forgets the records. */
void gw_logprobs_take(struct gw_logprobs *l, struct gw_buf *out);

size_t gw_logprobs_bytes(const struct gw_logprobs *l);
gw_err_t gw_logprobs_error(const struct gw_logprobs *l) GW_MUST_USE;

#endif
