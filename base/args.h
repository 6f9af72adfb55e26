/* Command line flags: one table per program gives parsing, --help, and --config.
 *
 *     static const struct gw_flag flags[] = {
 *         {"port", GW_FLAG_INT, &o.port, "PORT", "HTTP port, 0 = any free one", .min = 0, .max = 65535},
 *         {"model", GW_FLAG_STRING, &o.model, "DIR", "model directory (Hugging Face form)"},
 *         {0}};
 *
 * `--name value`, `--name=value` (needed when the value begins with --); booleans: `--name` or
 * `--name=false`. Given twice, the last one counts. `--config FILE` holds lines `name = value` (# comments);
 * flags on the command line win over the file, whatever their order. Defaults are what the targets hold
 * before the call; --help shows them (a double that is NAN: there is none). Secrets are never flags: a flag names the file that holds one.
 *
 * Owner: strings point into argv or into memory kept until exit. Thread: start-up only.
 * Errors: GW_ERR_INPUT with a text that says what to do. Source: own design. */
#ifndef GW_BASE_ARGS_H
#define GW_BASE_ARGS_H

#include <stdint.h>

#include "base/err.h"

enum gw_flag_type { GW_FLAG_STRING = 1, GW_FLAG_INT, GW_FLAG_DOUBLE, GW_FLAG_BOOL };

struct gw_flag {
    const char *name;       /* without dashes; NULL ends the table */
    enum gw_flag_type type; /* target: const char **, int64_t *, double *, bool * */
    void *target;
    const char *value_name; /* for --help, e.g. "DIR" */
    const char *help;
    double min, max; /* for INT and DOUBLE; checked when max > min */
};

/* Parses argv[1..]. Non-flag words are collected into words[0..*nwords) (at most max_words). *help is set
 * when --help or -h is there (then nothing else is checked). */
gw_err_t gw_args_parse(int argc, char **argv, const struct gw_flag *flags, const char **words, int max_words,
                       int *nwords, bool *help, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Prints "usage: <usage>", the intro, and a line per flag with its default. */
void gw_args_help(const char *usage, const char *intro, const struct gw_flag *flags);

#endif
