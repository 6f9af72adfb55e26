#include "controller/cli/sim_trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define MS_PER_S   1000.0
#define SUPPLY_MAX 100000
#define AT_MAX_S   1e9

struct reader {
    struct sim_trace trace;
    size_t cap;
    uint32_t supply;
};

static gw_err_t add_step(struct reader *r, double at_s, uint32_t supply)
{
    struct sim_trace *t = &r->trace;
    if (!(at_s >= 0 && at_s <= AT_MAX_S) || supply > SUPPLY_MAX) return GW_ERR_INPUT;
    if (t->len && at_s < t->steps[t->len - 1].at_s) return GW_ERR_INPUT;
    if (t->len == SIM_TRACE_STEPS_MAX) return GW_ERR_LIMIT;
    if (t->len == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 64;
        struct sim_trace_step *steps = realloc(t->steps, cap * sizeof *steps);
        if (!steps) return GW_ERR_MEMORY;
        t->steps = steps;
        r->cap = cap;
    }
    t->steps[t->len++] = (struct sim_trace_step){at_s, supply};
    r->supply = supply;
    return GW_OK;
}

static gw_err_t change(struct reader *r, double at_s, const char *word, uint32_t count)
{
    if (strcmp(word, "add") == 0) return add_step(r, at_s, r->supply + count);
    if (strcmp(word, "remove") != 0) return GW_OK;
    return add_step(r, at_s, r->supply > count ? r->supply - count : 0);
}

static gw_err_t read_json(struct reader *r, const char *line, size_t len)
{
    cJSON *tree = NULL;
    if (gw_json_parse(line, len, SIM_TRACE_LINE_MAX, &tree, NULL) != GW_OK) return GW_ERR_INPUT;
    const cJSON *at = cJSON_GetArrayItem(tree, 0), *word = cJSON_GetArrayItem(tree, 1);
    const cJSON *nodes = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(tree, 2), "nodes");
    gw_err_t err = GW_ERR_INPUT;
    if (cJSON_IsNumber(at) && cJSON_IsString(word))
        err = change(r, at->valuedouble / MS_PER_S, word->valuestring,
                     cJSON_IsArray(nodes) ? (uint32_t)cJSON_GetArraySize(nodes) : 0);
    cJSON_Delete(tree);
    return err;
}

static gw_err_t read_csv(struct reader *r, const char *line)
{
    char *end, word[16];
    double at = strtod(line, &end);
    if (end == line || *end != ',') return GW_ERR_INPUT;
    const char *rest = end + 1;
    unsigned long count = strtoul(rest, &end, 10);
    if (end != rest && *end == '\0')
        return count <= SUPPLY_MAX ? add_step(r, at, (uint32_t)count) : GW_ERR_INPUT;
    size_t len = strcspn(rest, ",");
    if (rest[len] != ',' || len >= sizeof word) return GW_ERR_INPUT;
    memcpy(word, rest, len);
    word[len] = '\0';
    return change(r, at / MS_PER_S, word, 1);
}

static gw_err_t read_line(struct reader *r, char *line)
{
    size_t len = strcspn(line, "\r\n");
    line[len] = '\0';
    if (len == 0) return GW_OK;
    return line[0] == '[' ? read_json(r, line, len) : read_csv(r, line);
}

static gw_err_t read_lines(FILE *f, const char *path, struct reader *r, struct gw_err_ctx *ctx)
{
    char *line = malloc(SIM_TRACE_LINE_MAX);
    gw_err_t err = line ? GW_OK : gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    for (int number = 1; err == GW_OK && fgets(line, SIM_TRACE_LINE_MAX, f); number++) {
        err = read_line(r, line);
        if (err != GW_OK) (void)gw_fail(ctx, err, "%s:%d: is no step of a trace", path, number);
    }
    if (err == GW_OK && r->trace.len == 0) err = gw_fail(ctx, GW_ERR_INPUT, "%s: has no steps", path);
    free(line);
    return err;
}

gw_err_t sim_trace_read(const char *path, struct sim_trace *out, struct gw_err_ctx *ctx)
{
    struct reader r = {0};
    FILE *f = fopen(path, "re");
    *out = (struct sim_trace){0};
    if (!f) return gw_fail(ctx, GW_ERR_IO, "%s: %s", path, strerror(errno));
    gw_err_t err = read_lines(f, path, &r, ctx);
    fclose(f);
    if (err == GW_OK)
        *out = r.trace;
    else
        sim_trace_fini(&r.trace);
    return err;
}

void sim_trace_fini(struct sim_trace *trace)
{
    free(trace->steps);
    *trace = (struct sim_trace){0};
}

uint32_t sim_trace_supply(const struct sim_trace *t, double at_s)
{
    uint32_t supply = 0;
    for (size_t i = 0; i < t->len && t->steps[i].at_s <= at_s; i++) supply = t->steps[i].supply;
    return supply;
}
