#include "worker/best.h"

#include <math.h>
#include <string.h>

struct entry {
    uint32_t id;
    float logit;
};

static bool is_better(struct entry a, struct entry b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* A heap whose root is the worst of those kept. */
static void sift_down(struct entry *heap, uint32_t len, uint32_t at)
{
    for (;;) {
        uint32_t worst = at, left = 2 * at + 1, right = left + 1;
        if (left < len && is_better(heap[worst], heap[left])) worst = left;
        if (right < len && is_better(heap[worst], heap[right])) worst = right;
        if (worst == at) return;
        struct entry e = heap[at];
        heap[at] = heap[worst];
        heap[worst] = e;
        at = worst;
    }
}

static void keep_best(const float *row, uint32_t columns, uint32_t first, struct entry *heap, uint32_t keep)
{
    /* Ids above all real ones, so that a real -infinity goes before them. */
    for (uint32_t i = 0; i < keep; i++) heap[i] = (struct entry){.id = UINT32_MAX, .logit = -INFINITY};
    for (uint32_t i = 0; i < columns; i++) {
        const struct entry e = {.id = first + i, .logit = row[i]};
        if (!is_better(e, heap[0])) continue;
        heap[0] = e;
        sift_down(heap, keep, 0);
    }
}

size_t gw_best_put(const float *row, uint32_t columns, uint32_t first, uint32_t keep, float *to)
{
    size_t words = gw_best_words(keep, columns);
    if (words == columns)
        memcpy(to, row, columns * sizeof *to);
    else
        keep_best(row, columns, first, (struct entry *)(void *)to, keep);
    return words;
}

bool gw_best_get(const float *from, uint32_t columns, uint32_t first, uint32_t keep, float *row)
{
    if (gw_best_words(keep, columns) == columns) {
        memcpy(row + first, from, columns * sizeof *row);
        return true;
    }
    for (uint32_t i = 0; i < columns; i++) row[first + i] = -INFINITY;
    for (uint32_t i = 0; i < keep; i++) {
        struct entry e;
        memcpy(&e, from + 2 * (size_t)i, sizeof e);
        if (e.id == UINT32_MAX) continue; /* fewer were better than nothing */
        if (e.id < first || e.id - first >= columns) return false;
        row[e.id] = e.logit;
    }
    return true;
}
