/* The controller's parts, as main_controller.c wires them: each sees only what it is given here.
 *
 * Owner: main makes and frees all of them. Thread: the loop's. Errors: what the parts say. Source: own design. */
#ifndef GW_CONTROLLER_PROGRAM_H
#define GW_CONTROLLER_PROGRAM_H

#include <event2/event.h>

#include "base/log.h"
#include "base/pool.h"
#include "controller/clouds.h"
#include "controller/front/front.h"
#include "controller/handover_give.h"
#include "controller/handover_take.h"
#include "controller/hub.h"
#include "controller/layout.h"
#include "controller/model_info.h"
#include "controller/options.h"
#include "controller/worker_links.h"

struct program {
    struct gw_controller_options o;
    struct gw_log log;
    struct gw_model_info model;
    struct gw_plan_model grid; /* its cells */
    struct gw_core_config core_config;
    struct gw_tokenizer *tokenizer;
    struct gw_chat_template *chat; /* NULL: the model has none */
    struct event_base *loop;
    struct gw_pool *pool;
    struct gw_hub *hub;
    struct gw_links *links;
    char *key; /* the cluster key */
    size_t key_len;
    struct gw_tls *tls; /* NULL: --insecure-plaintext */
    struct gw_layouts *layouts;
    struct gw_front *front;
    struct gw_journal *journal; /* NULL: none */
    struct gw_clouds *clouds;   /* NULL: no cloud is asked */
    struct gw_taken *taken;     /* what a predecessor gave us, NULL: there was none */
    struct gw_giver *giver;     /* for a successor */
    bool given;                 /* it has everything but our clients' connections … */
    bool stopped;               /* … which have all ended */
    struct event *sigint, *sigterm;
    bool stopping;
    int status;
};

/* program_front.c: the front, and what it sees of the others. */
gw_err_t program_create_front(struct program *p, struct gw_err_ctx *ctx) GW_MUST_USE;
/* Our clients have their answers; those of our predecessor get theirs through us. A gw_front_stop's. */
void program_on_stopped(void *arg);

/* program_journal.c: opening it, which a standby waits for, and taking up what is in it. */
gw_err_t program_open_journal(struct program *p, struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t program_restore(struct program *p, struct gw_err_ctx *ctx) GW_MUST_USE;

/* program_handover.c: the place of a predecessor is taken, and given to a successor. */
gw_err_t program_begin_taken(struct program *p, struct gw_err_ctx *ctx) GW_MUST_USE;
gw_err_t program_listen_for_successor(struct program *p, struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
