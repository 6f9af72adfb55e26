/* Calls: questions to a cloud's API from asking to answer: credentials, retries, pages, deadline.
 *
 *     start ─► credentials? ─► write ─► HTTP ─► read (on the pool) ─► OK       ─► next page, or done
 *                  ▲                                                 AGAIN    ─► wait, write again
 *                  └──────────────── once ◄───────────────────────── EXPIRED
 *                                                                    NO       ─► done with the error
 *
 * Waits double from GW_CALLS_WAIT_US to GW_CALLS_WAIT_MAX_US, half of each by chance, until the call's deadline. Answers
 * are parsed on the pool's threads: a group of 10,000 instances must not hold the loop.
 *
 * Owner: create/destroy; a question and its texts are borrowed until done; done may take the answer's arrays by zeroing
 * the answer. If start fails, done never fires; else once. Destroy the fetcher's client and the pool before the calls:
 * what is under way ends with GW_ERR_IO. Thread: the loop's. Units: microseconds.
 * Errors: GW_ERR_LIMIT (too many at once), GW_ERR_MEMORY; in done: GW_ERR_CLOUD and a text. Source: own design. */
#ifndef GW_CLOUD_CALLS_H
#define GW_CLOUD_CALLS_H

#include "base/pool.h"
#include "cloud/auth.h"
#include "cloud/cloud.h"

#define GW_CALLS_MAX         64
#define GW_CALLS_WAIT_US     ((int64_t)500000)
#define GW_CALLS_WAIT_MAX_US ((int64_t)10000000)
#define GW_CALLS_DEADLINE_US ((int64_t)60000000) /* half of AWS's notice */
#define GW_CALLS_PAGES_MAX   64

struct gw_calls;

struct gw_calls_config {
    struct event_base *loop;
    struct gw_pool *pool;
    struct gw_web fetcher;
    const struct gw_cloud_provider *provider;
    const struct gw_auth_ops *auth;
    struct gw_auth_config auth_config;
    struct gw_cloud_place place;
    uint64_t seed; /* of the jitter */
    /* Asked before each attempt of a question that changes something: may this program still? NULL: it may. A program that
     * was frozen between two attempts must not go on with what has become another's to decide. */
    bool (*may_write)(void *arg);
    void *may_write_arg;
};

typedef void (*gw_calls_done)(void *arg, gw_err_t err, const char *text, struct gw_cloud_answer *answer);

gw_err_t gw_calls_create(const struct gw_calls_config *config, struct gw_calls **out,
                         struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_calls_destroy(struct gw_calls *calls);

gw_err_t gw_calls_start(struct gw_calls *calls, const struct gw_cloud_ask *ask, gw_calls_done done,
                        void *arg) GW_MUST_USE;

#endif
