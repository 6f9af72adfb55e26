#include "controller/front/stream_log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAP 64 /* records; doubled from there */

void gw_stream_log_fini(struct gw_stream_log *log)
{
    free(log->ids);
    free(log->logprobs);
    free(log->top);
    *log = (struct gw_stream_log){0};
}

static gw_err_t grow(void **array, size_t cap, size_t item_bytes)
{
    void *bigger = realloc(*array, cap * item_bytes);
    if (!bigger) return GW_ERR_MEMORY;
    *array = bigger;
    return GW_OK;
}

static gw_err_t reserve(struct gw_stream_log *log, uint32_t need)
{
    uint32_t cap = log->cap ? log->cap : FIRST_CAP;
    if (need <= log->cap) return GW_OK;
    while (cap < need) cap *= 2;
    TRY(grow((void **)&log->ids, cap, sizeof *log->ids));
    TRY(grow((void **)&log->logprobs, cap, sizeof *log->logprobs));
    if (log->top_n > 0) TRY(grow((void **)&log->top, cap, log->top_n * sizeof *log->top));
    log->cap = cap;
    return GW_OK;
}

gw_err_t gw_stream_log_append(struct gw_stream_log *log, const struct gw_tokens *t)
{
    if (t->first > log->len) return GW_ERR_PROTO;
    uint32_t skip = log->len - t->first;
    if (skip >= t->count) return GW_OK;
    uint32_t count = t->count - skip;
    if (t->top_n != log->top_n || count > GW_REQUEST_TOKENS_MAX - log->len) return GW_ERR_PROTO;
    TRY(reserve(log, log->len + count));
    memcpy(log->ids + log->len, t->ids + skip, count * sizeof *t->ids);
    memcpy(log->logprobs + log->len, t->logprobs + skip, count * sizeof *t->logprobs);
    if (log->top_n > 0)
        memcpy(log->top + (size_t)log->len * log->top_n, t->top + (size_t)skip * log->top_n,
               (size_t)count * log->top_n * sizeof *t->top);
    log->len += count;
    return GW_OK;
}

struct gw_tokens gw_stream_log_view(const struct gw_stream_log *log, uint32_t first, uint32_t end)
{
    assert(first <= end && end <= log->len);
    struct gw_tokens view = {.first = first, .count = end - first, .top_n = log->top_n};
    if (first == end) return view;
    view.ids = log->ids + first;
    view.logprobs = log->logprobs + first;
    view.top = log->top_n > 0 ? log->top + (size_t)first * log->top_n : NULL;
    return view;
}

size_t gw_stream_log_bytes(const struct gw_stream_log *log)
{
    return (size_t)log->cap * (sizeof *log->ids + sizeof *log->logprobs + log->top_n * sizeof *log->top);
}
