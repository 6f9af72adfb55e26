#include "controller/cli/plan_picture.h"

#include <stdio.h>
#include <string.h>

#define MARGIN      12 /* columns left of the box */
#define COLUMN_MIN  4  /* columns per share */
#define COLUMNS_MAX 160
#define NAME_BYTES  (GW_PLAN_NAME_MAX + 16)

struct picture {
    const struct gw_plan_fleet *f;
    const struct gw_plan_model *m;
    const struct gw_layout *l;
    struct gw_buf *b;
    uint32_t column; /* columns per share */
};

static void name_of(const struct picture *p, const struct gw_layout_rank *r, char name[NAME_BYTES])
{
    const struct gw_plan_device *d = &p->f->devices[r->device];
    const struct gw_plan_instance *in = &p->f->instances[d->instance];
    if (in->devices == 1)
        snprintf(name, NAME_BYTES, "%s", in->id);
    else
        snprintf(name, NAME_BYTES, "%s/%u", in->id, d->index);
}

static void memory_of(const struct picture *p, const struct gw_layout_rank *r, char text[NAME_BYTES])
{
    const struct gw_plan_type *t = &p->f->types[p->f->devices[r->device].type];
    snprintf(text, NAME_BYTES, "%.3g/%.3g GB", (double)gw_plan_weight_bytes(p->m, r->cells) * 1e-9,
             (double)t->memory_bytes * 1e-9);
}

static void repeat(struct gw_buf *b, char c, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) gw_buf_u8(b, (uint8_t)c);
}

static uint32_t end_of(const struct gw_layout *l, uint32_t first)
{
    uint32_t i = first;
    while (i < l->ranks_len && l->ranks[i].pipeline == l->ranks[first].pipeline) i++;
    return i;
}

static uint32_t end_of_stage(const struct picture *p, uint32_t first, uint32_t end)
{
    uint32_t i = first;
    while (i < end && p->l->ranks[i].stage == p->l->ranks[first].stage) i++;
    return i;
}

/* Wide enough for every name, as far as the screen goes. */
static uint32_t column_for(const struct picture *p, uint32_t first, uint32_t end)
{
    uint32_t column = COLUMN_MIN;
    for (uint32_t i = first; i < end; i++) {
        char name[NAME_BYTES];
        const struct gw_layout_rank *r = &p->l->ranks[i];
        uint32_t shares = (uint32_t)(r->cells.s1 - r->cells.s0);
        name_of(p, r, name);
        uint32_t need = ((uint32_t)strlen(name) + 2 + shares) / shares;
        if (need > column) column = need;
    }
    uint32_t most = COLUMNS_MAX / p->m->shares;
    return column < most ? column : most > 2 ? most : 2;
}

/* "+---+---+": a corner wherever a rank of the stage above or below begins. */
static void edge(const struct picture *p, const uint8_t *corner)
{
    for (uint32_t s = 0; s < p->m->shares; s++) {
        gw_buf_u8(p->b, corner[s] ? '+' : '-');
        repeat(p->b, '-', p->column - 1);
    }
    gw_buf_puts(p->b, "+\n");
}

static void corners(const struct picture *p, uint32_t first, uint32_t end, uint8_t *corner)
{
    for (uint32_t i = first; i < end; i++) corner[p->l->ranks[i].cells.s0] = 1;
}

static void line_of(const struct picture *p, uint32_t first, uint32_t end,
                    void (*text_of)(const struct picture *p, const struct gw_layout_rank *r,
                                    char text[NAME_BYTES]))
{
    repeat(p->b, ' ', MARGIN);
    for (uint32_t i = first; i < end; i++) {
        char text[NAME_BYTES];
        const struct gw_layout_rank *r = &p->l->ranks[i];
        uint32_t room = (uint32_t)(r->cells.s1 - r->cells.s0) * p->column - 1;
        text_of(p, r, text);
        uint32_t len = (uint32_t)strlen(text) < room ? (uint32_t)strlen(text) : room;
        uint32_t left = (room - len) / 2;
        gw_buf_u8(p->b, '|');
        repeat(p->b, ' ', left);
        gw_buf_put(p->b, text, len);
        repeat(p->b, ' ', room - len - left);
    }
    gw_buf_puts(p->b, "|\n");
}

/* Share numbers above the box, where a rank begins. */
static void scale(const struct picture *p, const uint8_t *corner)
{
    char line[COLUMNS_MAX * 2 + 16];
    memset(line, ' ', sizeof line);
    uint32_t end = 0;
    for (uint32_t s = 0; s <= p->m->shares; s++) {
        uint32_t at = s * p->column;
        char number[12];
        int n = snprintf(number, sizeof number, "%u", s);
        if ((s < p->m->shares && !corner[s]) || at + (uint32_t)n >= sizeof line || at < end) continue;
        memcpy(line + at, number, (size_t)n);
        end = at + (uint32_t)n + 1;
    }
    gw_buf_printf(p->b, "%*s", MARGIN, "shares ");
    gw_buf_put(p->b, line, end ? end - 1 : 0);
    gw_buf_puts(p->b, "\n");
}

static void draw(struct picture *p, uint32_t first, uint32_t end)
{
    uint8_t all[GW_PLAN_SHARES_MAX + 1] = {0}, above[GW_PLAN_SHARES_MAX + 1] = {0};
    p->column = column_for(p, first, end);
    corners(p, first, end, all);
    scale(p, all);
    for (uint32_t i = first, next; i < end; i = next) {
        next = end_of_stage(p, i, end);
        corners(p, i, next, above);
        gw_buf_printf(p->b, "%*s%4u ", MARGIN - 5, i == first ? "groups " : "", p->l->ranks[i].cells.g0);
        edge(p, above);
        line_of(p, i, next, name_of);
        line_of(p, i, next, memory_of);
        memset(above, 0, sizeof above);
        corners(p, i, next, above);
    }
    gw_buf_printf(p->b, "%*u ", MARGIN - 1, p->m->groups);
    edge(p, above);
}

/* Of one form: the same cells on the same types, in the same zones. */
static bool same_form(const struct picture *p, uint32_t a, uint32_t b)
{
    uint32_t end_a = end_of(p->l, a), end_b = end_of(p->l, b);
    if (end_a - a != end_b - b) return false;
    for (uint32_t i = 0; i < end_a - a; i++) {
        const struct gw_layout_rank *x = &p->l->ranks[a + i], *y = &p->l->ranks[b + i];
        const struct gw_plan_device *d = &p->f->devices[x->device], *e = &p->f->devices[y->device];
        if (!gw_rect_equal(x->cells, y->cells) || d->type != e->type ||
            p->f->instances[d->instance].zone != p->f->instances[e->instance].zone)
            return false;
    }
    return true;
}

static void list_devices(const struct picture *p, uint32_t first)
{
    char name[NAME_BYTES];
    gw_buf_printf(p->b, "  pipeline %u likewise:", p->l->ranks[first].pipeline);
    for (uint32_t i = first; i < end_of(p->l, first); i++) {
        name_of(p, &p->l->ranks[i], name);
        gw_buf_printf(p->b, " %s", name);
    }
    gw_buf_puts(p->b, "\n");
}

/* "pipeline 0: 4 × h100 + 2 × a10, zone-a" */
static void headline(const struct picture *p, uint32_t first, uint32_t end)
{
    gw_buf_printf(p->b, "\npipeline %u: ", p->l->ranks[first].pipeline);
    for (uint32_t i = first, next; i < end; i = next) {
        uint32_t type = p->f->devices[p->l->ranks[i].device].type;
        for (next = i; next < end && p->f->devices[p->l->ranks[next].device].type == type;) next++;
        gw_buf_printf(p->b, "%s%u x %s", i == first ? "" : " + ", next - i, p->f->types[type].name);
    }
    uint32_t zone = GW_PLAN_NONE;
    for (uint32_t i = first; i < end; i++) {
        uint32_t at = p->f->instances[p->f->devices[p->l->ranks[i].device].instance].zone;
        if (at != zone) gw_buf_printf(p->b, ", %s", p->f->zones[at]);
        zone = at;
    }
    gw_buf_puts(p->b, "\n");
}

/* The pipelines behind `first` that are of its form, up to the first one that is not. */
static uint32_t draw_form(struct picture *p, uint32_t first)
{
    uint32_t end = end_of(p->l, first), listed = 0, more = 0;
    headline(p, first, end);
    draw(p, first, end);
    while (end < p->l->ranks_len && same_form(p, first, end)) {
        if (listed < PLAN_LINES_MAX) {
            list_devices(p, end);
            listed++;
        } else {
            more++;
        }
        end = end_of(p->l, end);
    }
    if (more) gw_buf_printf(p->b, "  … and %u more of this form\n", more);
    return end;
}

void plan_picture(const struct gw_plan_fleet *f, const struct gw_plan_model *m, const struct gw_layout *l,
                  struct gw_buf *b)
{
    struct picture p = {.f = f, .m = m, .l = l, .b = b};
    uint32_t at = 0, drawn = 0;
    for (; at < l->ranks_len && drawn < PLAN_PICTURES_MAX; drawn++) at = draw_form(&p, at);
    if (at < l->ranks_len)
        gw_buf_printf(b, "\n… and pipelines %u to %u (--json lists all)\n", l->ranks[at].pipeline,
                      l->pipelines - 1);
}
