/* Redis replies: hiredis' reader over bytes that came, with the limits of what we ask for, and without a copy of the values.
 *
 * What is let through: statuses, errors, integers, nil, strings of at most a page, and arrays of at most
 * GW_STORE_PAGES_MAX of these. Everything else no command of ours answers with: GW_ERR_PROTO, and the connection is over.
 *
 * Owner: redis_replies_destroy frees; element bytes are the reader's, valid during the call. Thread: one. Units: bytes.
 * Errors: GW_ERR_PROTO with hiredis' words, GW_ERR_MEMORY, or what `answer` returned. Source: RESP2; hiredis 0.14. */
#ifndef GW_MIGRATE_REDIS_REPLIES_H
#define GW_MIGRATE_REDIS_REPLIES_H

#include <stdint.h>

#include "base/err.h"

#define REDIS_ERROR_TEXT_MAX 127

enum redis_answer_type {
    REDIS_ANSWER_STATUS,
    REDIS_ANSWER_INTEGER,
    REDIS_ANSWER_STRING,
    REDIS_ANSWER_NIL,
    REDIS_ANSWER_ARRAY,
    REDIS_ANSWER_ERROR
};

struct redis_answer {
    enum redis_answer_type type;
    long long integer;
    uint32_t elements;
    char error[REDIS_ERROR_TEXT_MAX + 1]; /* also of the first error in an array; else "" */
};

struct redis_listener {
    void *arg;
    /* Element of an array, before its answer: a string, or bytes NULL for nil. */
    gw_err_t (*element)(void *arg, uint32_t index, const char *bytes, size_t len);
    gw_err_t (*answer)(void *arg, const struct redis_answer *answer, struct gw_err_ctx *ctx);
};

struct redis_replies;

/* listener is copied. NULL: out of memory. */
struct redis_replies *redis_replies_create(const struct redis_listener *listener);
void redis_replies_destroy(struct redis_replies *replies);

/* Forgets half a reply. */
gw_err_t redis_replies_reset(struct redis_replies *replies) GW_MUST_USE;

/* After an error: reset before the next feed. */
gw_err_t redis_replies_feed(struct redis_replies *replies, const void *bytes, size_t len,
                            struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
