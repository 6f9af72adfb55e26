/* Layouts for tests, from a text: stages separated by '/', in each the widths of its ranks in shares joined by '+';
 * ":n" behind a stage gives its layer groups, else they are dealt evenly. "8", "3+3+2", "4+4/8", "2+6:2/8:1". */
#ifndef GW_TESTS_LAYOUTS_H
#define GW_TESTS_LAYOUTS_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/wire.h"
#include "worker/cells.h"

static inline uint32_t layout_stages(const char *text)
{
    uint32_t n = 1;
    for (; *text; text++) n += *text == '/';
    return n;
}

/* One stage's ranks, of groups [g0, …); returns the end of its text. */
static inline const char *layout_stage(const char *text, const struct gw_cells *cells, uint16_t stage,
                                       uint32_t stages, uint16_t g0, struct gw_msg_assign *out)
{
    uint32_t first = out->ranks_len, share = 0;
    char *end;
    do {
        struct gw_assign_rank *r = &out->ranks[out->ranks_len++];
        assert(out->ranks_len <= GW_WIRE_RANKS_MAX);
        uint32_t width = (uint32_t)strtoul(text, &end, 10);
        *r = (struct gw_assign_rank){.stage = stage, .cells = {.g0 = g0, .s0 = (uint16_t)share}};
        snprintf(r->worker, sizeof r->worker, "w%u", out->ranks_len - 1);
        snprintf(r->data, sizeof r->data, "127.0.0.1:1");
        share += width;
        r->cells.s1 = (uint16_t)share;
        text = end + 1;
    } while (*end == '+');
    assert(share == cells->shares);
    uint32_t left = cells->groups - g0, groups = (left + stages - stage - 1) / (stages - stage);
    if (*end == ':') groups = (uint32_t)strtoul(end + 1, &end, 10);
    for (uint32_t i = first; i < out->ranks_len; i++) out->ranks[i].cells.g1 = (uint16_t)(g0 + groups);
    return *end ? end + 1 : end;
}

/* ranks: [GW_WIRE_RANKS_MAX], the caller's. */
static inline void layout_parse(const char *text, const struct gw_cells *cells, struct gw_assign_rank *ranks,
                                struct gw_msg_assign *out)
{
    uint32_t stages = layout_stages(text);
    *out = (struct gw_msg_assign){.epoch = 1, .ranks = ranks};
    for (uint16_t stage = 0; stage < stages; stage++) {
        uint16_t g0 = stage ? out->ranks[out->ranks_len - 1].cells.g1 : 0;
        text = layout_stage(text, cells, stage, stages, g0, out);
    }
    assert(*text == '\0' && out->ranks[out->ranks_len - 1].cells.g1 == cells->groups);
}

#endif
