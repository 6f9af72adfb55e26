#include "controller/core/core_log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define LOG_FIRST_CAP 64 /* records; doubled from there */

void core_log_fini(struct core_log *log)
{
    free(log->ids);
    free(log->logprobs);
    free(log->top);
    *log = (struct core_log){0};
}

/* Grows *array to cap items; the old array stays on failure. */
static gw_err_t grow(void **array, size_t cap, size_t item_bytes)
{
    void *bigger = realloc(*array, cap * item_bytes);
    if (!bigger) return GW_ERR_MEMORY;
    *array = bigger;
    return GW_OK;
}

gw_err_t core_log_reserve(struct core_log *log, uint32_t extra, uint32_t top_n, uint32_t max)
{
    if (extra > max - log->len) extra = max - log->len;
    uint64_t need = (uint64_t)log->len + extra;
    if (need <= log->cap) return GW_OK;
    uint64_t cap = log->cap ? (uint64_t)log->cap * 2 : LOG_FIRST_CAP;
    if (cap < need) cap = need;
    if (cap > max) cap = max;
    TRY(grow((void **)&log->ids, cap, sizeof *log->ids));
    TRY(grow((void **)&log->logprobs, cap, sizeof *log->logprobs));
    if (top_n > 0) TRY(grow((void **)&log->top, cap * top_n, sizeof *log->top));
    log->cap = (uint32_t)cap;
    return GW_OK;
}

void core_log_append(struct core_log *log, const struct gw_tokens *t, uint32_t i)
{
    assert(log->len < log->cap && !log->done);
    log->ids[log->len] = t->ids[i];
    log->logprobs[log->len] = t->logprobs[i];
    if (t->top_n > 0)
        memcpy(&log->top[(size_t)log->len * t->top_n], &t->top[(size_t)i * t->top_n],
               t->top_n * sizeof *t->top);
    log->len++;
}

bool core_log_equals(const struct core_log *log, const struct gw_tokens *t, uint32_t count)
{
    assert((uint64_t)t->first + count <= log->len);
    return count == 0 || memcmp(log->ids + t->first, t->ids, count * sizeof *t->ids) == 0;
}

struct gw_tokens core_log_view(const struct core_log *log, uint32_t first, uint32_t count, uint32_t top_n)
{
    assert((uint64_t)first + count <= log->len);
    struct gw_tokens view = {.first = first, .count = count, .top_n = top_n};
    if (count == 0) return view;
    view.ids = log->ids + first;
    view.logprobs = log->logprobs + first;
    view.top = top_n > 0 ? log->top + (size_t)first * top_n : NULL;
    return view;
}
