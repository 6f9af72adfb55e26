/* Layouts by name: what `--layout` and `POST /admin/layout` take.
 *
 *     layout    = "auto" | "replicas" | shape { "," shape }
 *     shape     = [ number "x" ] pipeline            so many of them, 1 unless said
 *     pipeline  = "tp" number [ "pp" number ]        one stage (or so many) of so many ranks each
 *               | "pp" number                        so many stages of one rank each
 *               | stage { "/" stage }                stages spelt out, the first one with the first layers
 *     stage     = number { "+" number } [ ":" number ]   shares of each rank; layer groups of the stage
 *
 * auto: the planner decides (controller/plan/planner.h). replicas: every worker that can hold the model is a pipeline of
 * its own. A shape forces one. "tp" deals shares evenly, the first ranks get one more; so are layer groups dealt to
 * stages, unless each stage names its own. Widths of a stage sum to the model's shares, group counts to its groups.
 *
 *     8 shares, 4 groups   one pipeline of …
 *     tp4                  2+2+2+2 shares, all groups
 *     tp3, 3+3+2           3+3+2 shares: the same
 *     pp2                  groups 0-1 at one rank, 2-3 at another, all shares each
 *     tp2pp2, 4+4/4+4      four ranks: two stages of two
 *     3+5/8                stage 0: 3 and 5 shares of groups 0-1; stage 1: all shares of groups 2-3
 *     3+5:1/8:3            the same ranks, cut behind group 0
 *     2xtp2                two pipelines of two ranks
 *     tp3,1x8              one of three ranks and one of one rank (a stage of one rank is its number of shares)
 *
 * Owner: plain data. Thread: any; pure. Units: shares, layer groups. Errors: GW_ERR_INPUT with one line that says what
 * was expected; *out is then unchanged. Source: own design. */
#ifndef GW_CONTROLLER_LAYOUT_SPEC_H
#define GW_CONTROLLER_LAYOUT_SPEC_H

#include "migrate/plan.h"

#define GW_LAYOUT_TEXT_MAX   256  /* bytes of a spec */
#define GW_LAYOUT_KINDS_MAX  16   /* shapes in one spec */
#define GW_LAYOUT_COPIES_MAX 1024 /* pipelines of one shape: as many as workers can register */
#define GW_LAYOUT_RANKS_MAX  64   /* ranks of a pipeline: GW_WIRE_RANKS_MAX */

enum gw_layout_mode { GW_LAYOUT_AUTO, GW_LAYOUT_REPLICAS, GW_LAYOUT_SHAPE };

struct gw_layout_slot {
    uint16_t stage;
    struct gw_cell_rect cells;
};

/* Pipelines of one shape. */
struct gw_layout_kind {
    uint32_t copies, ranks_len;
    struct gw_layout_slot ranks[GW_LAYOUT_RANKS_MAX]; /* by stage, then first share */
};

struct gw_layout_spec {
    enum gw_layout_mode mode;
    char text[GW_LAYOUT_TEXT_MAX + 1]; /* as it was given */
    uint32_t kinds_len;                /* 0 unless mode is GW_LAYOUT_SHAPE */
    struct gw_layout_kind kinds[GW_LAYOUT_KINDS_MAX];
};

gw_err_t gw_layout_spec_parse(const char *text, uint32_t groups, uint32_t shares, struct gw_layout_spec *out,
                              struct gw_err_ctx *ctx) GW_MUST_USE;

/* Pipelines that a shape asks for; 0 for the other modes. */
uint32_t gw_layout_spec_pipelines(const struct gw_layout_spec *spec);

#endif
