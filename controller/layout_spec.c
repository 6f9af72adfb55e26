#include "controller/layout_spec.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define NUMBER_MAX 65535 /* more than any count below may be */

/* One pipeline as it was spelt: what each stage asks for. */
struct stage_text {
    uint32_t ranks_len;
    uint32_t widths[GW_LAYOUT_RANKS_MAX];
    uint32_t groups; /* 0: not named */
};

struct parser {
    const char *text, *at;
    uint32_t groups, shares;
    struct gw_err_ctx *ctx;
    uint32_t stages_len; /* of the pipeline that is being read */
    struct stage_text stages[GW_LAYOUT_RANKS_MAX];
    uint32_t ranks_len;
};

static gw_err_t fail_at(struct parser *p, const char *expected)
{
    return gw_fail(
        p->ctx, GW_ERR_INPUT,
        "layout '%s': expected %s at character %d (layouts are auto, replicas, or shapes such as tp4, "
        "2xtp2, pp2, tp2pp2, 3+3+2, 3+5/8)",
        p->text, expected, (int)(p->at - p->text) + 1);
}

static bool take(struct parser *p, const char *word)
{
    size_t len = strlen(word);
    if (strncmp(p->at, word, len) != 0) return false;
    p->at += len;
    return true;
}

/* A number >= 1 without a sign or leading zeros. */
static gw_err_t take_number(struct parser *p, uint32_t *out)
{
    uint32_t n = 0;
    if (*p->at < '1' || *p->at > '9') return fail_at(p, "a number from 1 on");
    while (isdigit((unsigned char)*p->at)) {
        n = n * 10 + (uint32_t)(*p->at - '0');
        if (n > NUMBER_MAX) return fail_at(p, "a smaller number");
        p->at++;
    }
    *out = n;
    return GW_OK;
}

static gw_err_t too_many_ranks(struct parser *p)
{
    return gw_fail(p->ctx, GW_ERR_INPUT, "layout '%s': a pipeline has at most %d ranks", p->text,
                   GW_LAYOUT_RANKS_MAX);
}

/* Part `i` of `whole` dealt to `parts`: the first ones get one more. */
static uint32_t dealt(uint32_t whole, uint32_t parts, uint32_t i)
{
    return whole / parts + (i < whole % parts);
}

/* ---- pipelines ---- */

static gw_err_t take_even(struct parser *p)
{
    uint32_t width = 1, stages = 1;
    bool tp = take(p, "tp");
    if (tp) TRY(take_number(p, &width));
    if (take(p, "pp"))
        TRY(take_number(p, &stages));
    else if (!tp)
        return fail_at(p, "tp, pp or a number of shares");
    if (width > p->shares)
        return gw_fail(p->ctx, GW_ERR_INPUT, "layout '%s': tp%u needs as many shares, the model has %u",
                       p->text, width, p->shares);
    if (stages > p->groups)
        return gw_fail(p->ctx, GW_ERR_INPUT, "layout '%s': pp%u needs as many layer groups, the model has %u",
                       p->text, stages, p->groups);
    if (width * stages > GW_LAYOUT_RANKS_MAX) return too_many_ranks(p);
    for (uint32_t k = 0; k < stages; k++) {
        p->stages[k] = (struct stage_text){.ranks_len = width};
        for (uint32_t i = 0; i < width; i++) p->stages[k].widths[i] = dealt(p->shares, width, i);
    }
    p->stages_len = stages;
    p->ranks_len = width * stages;
    return GW_OK;
}

static gw_err_t take_stage(struct parser *p)
{
    struct stage_text *s = &p->stages[p->stages_len];
    uint32_t sum = 0;
    *s = (struct stage_text){0};
    do {
        if (p->ranks_len == GW_LAYOUT_RANKS_MAX) return too_many_ranks(p);
        TRY(take_number(p, &s->widths[s->ranks_len]));
        sum += s->widths[s->ranks_len++];
        p->ranks_len++;
    } while (take(p, "+"));
    if (sum != p->shares)
        return gw_fail(p->ctx, GW_ERR_INPUT,
                       "layout '%s': the widths of stage %u sum to %u, but the model has %u shares", p->text,
                       p->stages_len, sum, p->shares);
    if (take(p, ":")) TRY(take_number(p, &s->groups));
    p->stages_len++;
    return GW_OK;
}

/* Either every stage names its groups and they sum to the model's, or none does and they are dealt. */
static gw_err_t deal_groups(struct parser *p)
{
    uint32_t named = 0, sum = 0;
    for (uint32_t k = 0; k < p->stages_len; k++) {
        named += p->stages[k].groups != 0;
        sum += p->stages[k].groups;
    }
    if (named == 0 && p->stages_len > p->groups)
        return gw_fail(p->ctx, GW_ERR_INPUT, "layout '%s': %u stages, but the model has %u layer groups",
                       p->text, p->stages_len, p->groups);
    if (named != 0 && named != p->stages_len)
        return gw_fail(p->ctx, GW_ERR_INPUT, "layout '%s': either every stage or none says ':groups'",
                       p->text);
    if (named != 0 && sum != p->groups)
        return gw_fail(p->ctx, GW_ERR_INPUT,
                       "layout '%s': groups sum to %u, but the model has %u layer groups", p->text, sum,
                       p->groups);
    for (uint32_t k = 0; named == 0 && k < p->stages_len; k++)
        p->stages[k].groups = dealt(p->groups, p->stages_len, k);
    return GW_OK;
}

static void fill_kind(const struct parser *p, struct gw_layout_kind *kind)
{
    uint32_t group = 0;
    kind->ranks_len = 0;
    for (uint32_t k = 0; k < p->stages_len; k++) {
        const struct stage_text *s = &p->stages[k];
        uint32_t share = 0;
        for (uint32_t i = 0; i < s->ranks_len; i++) {
            kind->ranks[kind->ranks_len++] =
                (struct gw_layout_slot){.stage = (uint16_t)k,
                                        .cells = {(uint16_t)group, (uint16_t)(group + s->groups),
                                                  (uint16_t)share, (uint16_t)(share + s->widths[i])}};
            share += s->widths[i];
        }
        group += s->groups;
    }
}

static gw_err_t take_stages(struct parser *p)
{
    do {
        TRY(take_stage(p));
    } while (take(p, "/"));
    return GW_OK;
}

/* "2x", if it is there. */
static gw_err_t take_copies(struct parser *p, uint32_t *copies)
{
    const char *begin = p->at;
    *copies = 1;
    if (!isdigit((unsigned char)*p->at)) return GW_OK;
    TRY(take_number(p, copies));
    if (!take(p, "x")) {
        p->at = begin;
        *copies = 1;
    }
    if (*copies <= GW_LAYOUT_COPIES_MAX) return GW_OK;
    return gw_fail(p->ctx, GW_ERR_INPUT, "layout '%s': at most %d pipelines", p->text, GW_LAYOUT_COPIES_MAX);
}

static gw_err_t take_shape(struct parser *p, struct gw_layout_kind *kind)
{
    p->stages_len = p->ranks_len = 0;
    TRY(take_copies(p, &kind->copies));
    if (isdigit((unsigned char)*p->at))
        TRY(take_stages(p));
    else
        TRY(take_even(p));
    TRY(deal_groups(p));
    fill_kind(p, kind);
    return GW_OK;
}

/* ---- the whole text ---- */

static gw_err_t take_shapes(struct parser *p, struct gw_layout_spec *spec)
{
    do {
        if (spec->kinds_len == GW_LAYOUT_KINDS_MAX)
            return gw_fail(p->ctx, GW_ERR_INPUT, "layout '%s': at most %d shapes", p->text,
                           GW_LAYOUT_KINDS_MAX);
        TRY(take_shape(p, &spec->kinds[spec->kinds_len++]));
    } while (take(p, ","));
    return *p->at ? fail_at(p, "an end, ',', '/', '+' or ':'") : GW_OK;
}

/* The text goes into answers and logs. */
static gw_err_t check_text(const char *text, struct gw_err_ctx *ctx)
{
    size_t len = strnlen(text, GW_LAYOUT_TEXT_MAX + 1);
    if (len == 0)
        return gw_fail(ctx, GW_ERR_INPUT, "a layout is needed: auto, replicas, or a shape such as tp4");
    if (len > GW_LAYOUT_TEXT_MAX)
        return gw_fail(ctx, GW_ERR_INPUT, "a layout has at most %d characters", GW_LAYOUT_TEXT_MAX);
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return gw_fail(ctx, GW_ERR_INPUT, "a layout has no spaces or special characters");
    return GW_OK;
}

gw_err_t gw_layout_spec_parse(const char *text, uint32_t groups, uint32_t shares, struct gw_layout_spec *out,
                              struct gw_err_ctx *ctx)
{
    struct gw_layout_spec spec = {.mode = GW_LAYOUT_SHAPE};
    struct parser p = {.text = text, .at = text, .groups = groups, .shares = shares, .ctx = ctx};
    TRY(check_text(text, ctx));
    snprintf(spec.text, sizeof spec.text, "%s", text);
    if (strcmp(text, "auto") == 0)
        spec.mode = GW_LAYOUT_AUTO;
    else if (strcmp(text, "replicas") == 0)
        spec.mode = GW_LAYOUT_REPLICAS;
    else
        TRY(take_shapes(&p, &spec));
    *out = spec;
    return GW_OK;
}

uint32_t gw_layout_spec_pipelines(const struct gw_layout_spec *spec)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < spec->kinds_len; i++) n += spec->kinds[i].copies;
    return n;
}
