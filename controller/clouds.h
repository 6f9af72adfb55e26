/* Clouds: what the controller has to do with its cloud, opened as the options say: sizes of groups (capacity.h), the notice
 * queue (notice_queue.h), and below them one HTTP client, one thread, one set of credentials.
 *
 * Owner: create/destroy; texts are borrowed. Stop it before the journal is closed, destroy it before core and layout service.
 * Thread: the loop's. Units: microseconds. Errors: GW_ERR_MEMORY, GW_ERR_IO, GW_ERR_INPUT. Source: own design. */
#ifndef GW_CONTROLLER_CLOUDS_H
#define GW_CONTROLLER_CLOUDS_H

#include "controller/capacity.h"
#include "controller/journal.h"

struct gw_clouds;

struct gw_clouds_config {
    struct event_base *loop;
    const struct gw_capacity_options *options;
    const struct gw_core *core;
    struct gw_layouts *layouts;
    struct gw_journal *journal; /* NULL: there is none; writes are a dry run's then */
    uint64_t term;
    const struct gw_log *log;
    struct gw_clock clock;
    void (*post)(void *arg, const struct gw_event *event);
    void *arg;
};

/* *out is NULL when the options ask for nothing; all below take that. */
gw_err_t gw_clouds_create(const struct gw_clouds_config *config, struct gw_clouds **out,
                          struct gw_err_ctx *ctx) GW_MUST_USE;
/* Nothing is decided, posted or written any more: the cloud is another controller's from now on, or this program ends. */
void gw_clouds_stop(struct gw_clouds *clouds);
void gw_clouds_destroy(struct gw_clouds *clouds);

/* An entry that the journal kept, as gw_journal_replay gives it: true if it was an intent of ours, which is then over. */
bool gw_clouds_restore(struct gw_clouds *clouds, struct gw_journal *journal, uint64_t entry,
                       const void *pieces, size_t len);

void gw_clouds_on_action(struct gw_clouds *clouds, const struct gw_action *action);

void gw_clouds_view(const struct gw_clouds *clouds, struct gw_capacity_view *out);

#endif
