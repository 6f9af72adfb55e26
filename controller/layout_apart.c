#include "controller/layout_apart.h"

#include <stdio.h>
#include <string.h>

static bool is_of(const struct gw_apart *p, const char *x, const char *y)
{
    return (strcmp(p->worker[0], x) == 0 && strcmp(p->worker[1], y) == 0) ||
           (strcmp(p->worker[0], y) == 0 && strcmp(p->worker[1], x) == 0);
}

static void forget_old(struct gw_aparts *a, int64_t now_us)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < a->len; i++)
        if (a->pairs[i].until_us + GW_APART_MOST_US > now_us) a->pairs[kept++] = a->pairs[i];
    a->len = kept;
}

/* A slot for a new pair. */
static struct gw_apart *new_pair(struct gw_aparts *a)
{
    struct gw_apart *oldest = &a->pairs[0];
    if (a->len < GW_PLAN_APART_MAX) return &a->pairs[a->len++];
    for (uint32_t i = 1; i < a->len; i++)
        if (a->pairs[i].until_us < oldest->until_us) oldest = &a->pairs[i];
    return oldest;
}

static int64_t apart_us(uint32_t times)
{
    int64_t us = GW_APART_FIRST_US;
    for (uint32_t i = 1; i < times && us < GW_APART_MOST_US; i++) us *= 2;
    return us < GW_APART_MOST_US ? us : GW_APART_MOST_US;
}

void gw_aparts_add(struct gw_aparts *a, const char *worker, const char *other, int64_t now_us)
{
    struct gw_apart *pair = NULL;
    forget_old(a, now_us);
    for (uint32_t i = 0; i < a->len && !pair; i++)
        if (is_of(&a->pairs[i], worker, other)) pair = &a->pairs[i];
    if (!pair) {
        pair = new_pair(a);
        *pair = (struct gw_apart){0};
        snprintf(pair->worker[0], sizeof pair->worker[0], "%s", worker);
        snprintf(pair->worker[1], sizeof pair->worker[1], "%s", other);
    }
    pair->until_us = now_us + apart_us(++pair->times);
}

int64_t gw_aparts_end_us(const struct gw_aparts *a, int64_t now_us)
{
    int64_t end_us = INT64_MAX;
    for (uint32_t i = 0; i < a->len; i++)
        if (a->pairs[i].until_us > now_us && a->pairs[i].until_us < end_us) end_us = a->pairs[i].until_us;
    return end_us;
}
