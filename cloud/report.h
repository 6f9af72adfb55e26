/* The report: makes a controller know what this instance's cloud has announced.
 *
 *     notices ─► what should be known: doomed by the earliest deadline, or not ─► POST /admin/notice until it is
 *
 * The controller keeps one deadline per instance, so what is told is the earliest of all kinds that are announced now;
 * a cancel of one of them may move it, or end it. A maintenance that is announced days ahead is told GW_REPORT_LEAD_US
 * before it begins. What was told is told again each GW_REPORT_AGAIN_US until its deadline, since a controller that
 * has been restarted knows nothing. A rebalance recommendation dooms nobody: it is told each GW_REPORT_ADVICE_US while it
 * stands, behind notices, so that a replacement is had before there is one. It is not taken back: the controller forgets it
 * after a day, or with a cancel.
 *
 * An instance whose workers have not registered yet is unknown to the controller (404): it is told again each second.
 * Several controllers are tried in turn.
 *
 * The wire is the controller's admin listener: HTTP with its token. A token lets its holder speak for any instance;
 * this program speaks for its own only.
 *
 * Owner: create/destroy; texts are borrowed. The fetcher ends what is in flight before the report is destroyed.
 * Thread: the loop's. Units: microseconds on the monotonic clock. Errors: GW_ERR_MEMORY. Source: own design. */
#ifndef GW_CLOUD_REPORT_H
#define GW_CLOUD_REPORT_H

#include "base/log.h"
#include "cloud/web.h"
#include "cloud/notice.h"

#define GW_REPORT_URLS_MAX  4
#define GW_REPORT_LEAD_US   ((int64_t)600000000) /* ten minutes: room to load weights elsewhere */
#define GW_REPORT_AGAIN_US  ((int64_t)10000000)
#define GW_REPORT_ADVICE_US ((int64_t)60000000)

struct gw_report;

struct gw_report_config {
    struct event_base *loop;
    struct gw_web fetcher;
    const char *urls[GW_REPORT_URLS_MAX]; /* of admin listeners, "http://127.0.0.1:8001"; NULL ends */
    const char *token;                    /* NULL: none is asked for */
    const struct gw_log *log;
    /* Called once when the controller, told of an end, has no request left on this instance; NULL: nobody asks. */
    void (*drained)(void *arg);
    void *arg;
};

gw_err_t gw_report_create(const struct gw_report_config *config, struct gw_report **out,
                          struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_report_destroy(struct gw_report *report);

void gw_report_notice(struct gw_report *report, const struct gw_cloud_notice *notice);

/* Whether the instance's cloud can be heard: told once (kinds blind, sees), behind notices. instance "": it is not known yet, and
 * nobody is told. */
void gw_report_sees(struct gw_report *report, const char *instance, bool sees);

#endif
