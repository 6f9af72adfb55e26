/* A choice: the visible text of one branch, as a function of its committed records alone.
 *
 *     records ─► detokenizer ─► stop strings ─► text (and logprobs) that may be sent
 *
 * However the records are cut into calls, the concatenation of what is taken is the same, and so is the
 * record that ends the choice. A stop id shows neither text nor logprobs (unless include_stop): it is no part
 * of the content. A stop string is looked for only in the text of records from min_tokens on.
 *
 * Owner: init/fini. Thread: the loop's. Units: records, bytes.
 * Errors: GW_ERR_PROTO for records that do not follow on; GW_ERR_LIMIT, GW_ERR_MEMORY: the choice is broken
 * and its request must fail. Source: own design. */
#ifndef GW_CONTROLLER_CHOICE_H
#define GW_CONTROLLER_CHOICE_H

#include "controller/front/logprobs.h"
#include "controller/front/openai_request.h"
#include "controller/text/detok.h"
#include "controller/text/stops.h"

#define GW_CHOICE_TEXT_MAX (64u << 20) /* of text, and of each list of logprobs, held for one choice */

struct gw_choice {
    const struct gw_sampling *sampling;
    struct gw_detok detok;
    struct gw_stops stops;
    bool include_stop;
    struct gw_buf fresh; /* what one record gave, before stop strings were looked for */
    struct gw_buf text;  /* may be sent; emptied by the owner */
    struct gw_logprobs logprobs;
    uint32_t kept;         /* records that belong to the choice */
    enum gw_finish finish; /* GW_FINISH_NONE while it goes on */
    bool stopped;          /* by a stop string: the core must be told to keep `kept` records */
};

/* sampling: of the request, with the prompt's max_tokens; borrowed, as is what options points to. */
gw_err_t gw_choice_init(struct gw_choice *c, const struct gw_tokenizer *tokenizer,
                        const struct gw_openai_options *options,
                        const struct gw_sampling *sampling) GW_MUST_USE;
void gw_choice_fini(struct gw_choice *c);

/* Takes records. Those before `kept` are known and skipped; those behind a stop string are ignored. */
gw_err_t gw_choice_feed(struct gw_choice *c, const struct gw_tokens *tokens) GW_MUST_USE;

/* The core says that the branch has ended: what was held back becomes text. */
gw_err_t gw_choice_end(struct gw_choice *c, enum gw_finish reason) GW_MUST_USE;

/* Bytes held, for the bound on a whole answer. */
size_t gw_choice_bytes(const struct gw_choice *c);

#endif
