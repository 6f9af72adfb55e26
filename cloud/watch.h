/* The watch: carries one source's questions to its cloud and the answers back, on the event loop.
 *
 * It also knows whether the cloud can be heard at all: `sees` is told when no good answer came for
 * blind_us, and when one comes again.
 *
 * Owner: create/destroy; owns the source. The fetcher ends what is in flight (gw_web_client_destroy) before the watch
 * is destroyed. Thread: the loop's. Units: microseconds on the monotonic clock.
 * Errors: GW_ERR_MEMORY, GW_ERR_INPUT (the source's own). Source: own design. */
#ifndef GW_CLOUD_WATCH_H
#define GW_CLOUD_WATCH_H

#include "cloud/source.h"

struct gw_watch;

struct gw_watch_config {
    struct event_base *loop;
    struct gw_web fetcher;
    const struct gw_source_ops *ops;
    struct gw_source_config source;
    int64_t blind_us;
    void (*sees)(void *arg, bool sees); /* NULL: nobody asks */
    void *arg;
};

gw_err_t gw_watch_create(const struct gw_watch_config *config, struct gw_watch **out,
                         struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_watch_destroy(struct gw_watch *watch);

/* "" while it is not known. */
const char *gw_watch_instance(const struct gw_watch *watch);
/* Nothing runs on this instance any more. */
void gw_watch_drained(struct gw_watch *watch);

#endif
