/* `godwit cloud list | preempt | cancel | rebalance | kill | supply`: what a person does to a cloud that `godwit cloud`, or
 * `godwit up --cloud sim`, plays (sim_api.h).
 *
 * Owner: nothing is kept. Thread: main. Units: seconds. Errors: those of admin_client.h; GW_ERR_INPUT for words that are none.
 * Source: own design. */
#ifndef GW_CONTROLLER_CLI_CLOUD_ASK_H
#define GW_CONTROLLER_CLI_CLOUD_ASK_H

#include "base/err.h"

#define CLOUD_ENDPOINT_DEFAULT "127.0.0.1:8010"
#define CLOUD_WORDS_MAX        2

/* What --help says of the words. */
extern const char cloud_ask_help[];

/* words[0] is the verb, words[1] an instance or a number. notice_s NAN: the cloud's own. */
gw_err_t cloud_ask(const char *endpoint, const char *const words[CLOUD_WORDS_MAX], int words_len,
                   double notice_s, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
