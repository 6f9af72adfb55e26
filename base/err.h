/* Errors: one result type, one place for the words.
 *
 * Every function that can fail returns gw_err_t. The code is a *category*: what callers decide on.
 * The detail, for a person, goes into a struct gw_err_ctx that the caller passes down (NULL is allowed and
 * drops the text). The first error wins: gw_fail on a context that already holds one keeps the old text.
 *
 * Owner: the context belongs to the caller (stack or struct member); no heap.
 * Thread: one context, one thread at a time.
 * Errors: none of its own; text is cut at GW_ERR_TEXT_MAX.
 * Source: own design, after s2n-tls (must-look results) and hiredis (sticky text). */
#ifndef GW_BASE_ERR_H
#define GW_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

enum gw_err {
    GW_OK = 0,
    GW_ERR_IO,        /* a file, socket or process did not do what was asked: retry may help */
    GW_ERR_PROTO,     /* a peer broke the protocol: drop the connection */
    GW_ERR_LIMIT,     /* a named maximum was reached: the caller may try again later or smaller */
    GW_ERR_MEMORY,    /* allocation failed */
    GW_ERR_CLOUD,     /* a cloud API said no */
    GW_ERR_CUDA,      /* a device said no */
    GW_ERR_INPUT,     /* the user, client or file is wrong: tell them, do not retry */
    GW_ERR_NOT_FOUND, /* what was named does not exist */
    GW_ERR_INTERNAL,  /* our bug, survived */
};

/* On every declaration of a fallible function: ignoring the result is a compile error (-Werror). */
#define GW_MUST_USE __attribute__((warn_unused_result))
typedef enum gw_err gw_err_t;

#define GW_ERR_TEXT_MAX 512

struct gw_err_ctx {
    gw_err_t code;
    char text[GW_ERR_TEXT_MAX];
};

/* Records code and text (printf style) unless ctx is NULL or already holds an error; returns code. */
gw_err_t gw_fail(struct gw_err_ctx *ctx, gw_err_t code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the text, so that an error names the file or request it speaks of. Returns
 * code. */
gw_err_t gw_fail_prefix(struct gw_err_ctx *ctx, gw_err_t code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Forgets what ctx holds. */
void gw_err_reset(struct gw_err_ctx *ctx);

/* The category's name: "input", "io", ... Never NULL. */
const char *gw_err_name(gw_err_t code);

/* The only two macros that hide control flow. */
#define TRY(expr)                                                                                            \
    do {                                                                                                     \
        gw_err_t try_err_ = (expr);                                                                          \
        if (try_err_ != GW_OK) return try_err_;                                                              \
    } while (0)

/* Needs `gw_err_t err` in scope and a label to jump to. */
#define TRY_GOTO(expr, label)                                                                                \
    do {                                                                                                     \
        err = (expr);                                                                                        \
        if (err != GW_OK) goto label;                                                                        \
    } while (0)

#endif
