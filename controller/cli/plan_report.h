/* What `godwit plan` found out, and its two forms: text for people, JSON for programs.
 *
 * Owner: plan_report_fini frees plan and losses; files are borrowed. Thread: main. Units: as in migrate/plan.h.
 * Errors: GW_ERR_MEMORY. Source: own design. */
#ifndef GW_CONTROLLER_CLI_PLAN_REPORT_H
#define GW_CONTROLLER_CLI_PLAN_REPORT_H

#include "base/buf.h"
#include "controller/cli/plan_files.h"

#define PLAN_LOSSES_MAX    64  /* different losses that are tried: each is a plan of its own */
#define PLAN_LOSS_NOTICE_S 120 /* notice that is assumed (what spot instances usually get is 30 to 120 s) */

/* What the loss of one instance would do; instances that do the same in the layout are one. */
struct plan_loss {
    uint32_t instance; /* the first of them */
    uint32_t count;
    uint32_t go_on; /* pipelines that serve on untouched */
    uint32_t pipelines;
    enum gw_verdict verdict;
    struct gw_score meanwhile, after;
    double move_s, gap_s;
};

struct plan_report {
    const struct gw_plan_files *files;
    struct gw_plan plan;
    struct plan_loss *losses;
    uint32_t losses_len;
    uint32_t losses_left; /* instances that were not looked at: beyond PLAN_LOSSES_MAX kinds */
};

gw_err_t plan_report_losses(struct plan_report *report, struct gw_err_ctx *ctx) GW_MUST_USE;
void plan_report_fini(struct plan_report *report);

/* Append to b (sticky errors). */
void plan_report_text(const struct plan_report *report, struct gw_buf *b);
void plan_report_json(const struct plan_report *report, struct gw_buf *b);

#endif
