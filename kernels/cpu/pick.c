#include "kernels/cpu/pick.h"

#define SORT_SMALL 24 /* below it, insertion sort is faster than another partition */

static_assert(sizeof(struct gw_pick_heap) <= GW_SCRATCH_BYTES, "a thread's scratch holds a heap");

/* ---- words ---- */

static void insertion_sort(uint64_t *a, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        uint64_t word = a[i];
        uint32_t at = i;
        for (; at > 0 && a[at - 1] > word; at--) a[at] = a[at - 1];
        a[at] = word;
    }
}

static uint64_t middle_of_three(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

/* Hoare's partition: a[0 .. result) <= a[result .. n), both parts are not empty. n >= 2, no two words are equal. */
static uint32_t partition(uint64_t *a, uint32_t n)
{
    uint64_t pivot = middle_of_three(a[0], a[n / 2], a[n - 1]);
    uint32_t i = 0, k = n - 1;
    for (;;) {
        while (a[i] < pivot) i++;
        while (a[k] > pivot) k--;
        if (i >= k) break;
        uint64_t word = a[i];
        a[i++] = a[k];
        a[k--] = word;
    }
    return i > 0 ? i : 1;
}

/* The k smallest come first, in any order. */
static void select_words(uint64_t *a, uint32_t n, uint32_t k)
{
    while (n > SORT_SMALL && k > 0 && k < n) {
        uint32_t left = partition(a, n);
        if (k <= left) {
            n = left;
        } else {
            a += left;
            n -= left;
            k -= left;
        }
    }
    if (k > 0 && k < n) insertion_sort(a, n);
}

static void sort_words(uint64_t *a, uint32_t n)
{
    while (n > SORT_SMALL) {
        uint32_t left = partition(a, n);
        sort_words(a, left);
        a += left;
        n -= left;
    }
    insertion_sort(a, n);
}

/* ---- the best logits ---- */

static void let_go(struct gw_pick_heap *h)
{
    uint64_t worst = 0;
    if (h->len < h->keep) return;
    select_words(h->words, h->len, h->keep);
    h->len = h->keep;
    for (uint32_t i = 0; i < h->len; i++) worst = h->words[i] > worst ? h->words[i] : worst;
    h->bar = gw_pick_word_logit(worst);
}

void gw_pick_heap_make_room(struct gw_pick_heap *h)
{
    if (gw_pick_heap_is_full(h)) let_go(h);
}

uint32_t gw_pick_fill(struct gw_pick_heap *h, const float *x, uint32_t columns, uint32_t first)
{
    uint32_t i = 0;
    for (; i < columns && !gw_pick_heap_is_full(h); i++)
        if (x[i] == x[i]) gw_pick_push(h, x[i], first + i);
    gw_pick_heap_make_room(h);
    return i;
}

/* The best `keep` of the columns, best first; returns how many there are. */
static uint32_t best_of(const struct gw_pick_row *row, const struct gw_pick_variant *v, uint32_t first,
                        uint32_t columns, uint32_t keep, struct gw_pick_heap *h)
{
    assert(keep >= 1 && keep <= GW_PICK_KEEP_MAX);
    h->keep = keep;
    h->len = 0;
    v->best(h, row->x, columns, first);
    let_go(h);
    sort_words(h->words, h->len);
    return h->len;
}

/* ---- the best score ---- */

bool gw_pick_try(struct gw_pick_draw *d, float logit, uint32_t id)
{
    double score = gw_keyed_score(logit + 0.0f, d->inverse, d->stream, id);
    if (!(score > d->score || (score == d->score && id < d->id))) return false;
    d->score = score;
    d->id = id;
    return true;
}

static void pick_by_score(const struct gw_pick_row *row, const struct gw_pick_variant *v, uint32_t first,
                          uint32_t columns, struct gw_pick_heap *h)
{
    struct gw_pick_part *part = row->part;
    part->all = true; /* the others have lost */
    part->entries_len = best_of(row, v, first, columns, 1, h);
    if (part->entries_len == 0) return;
    uint32_t best = (uint32_t)h->words[0];
    struct gw_pick_draw d = {.stream = row->want->stream,
                             .inverse = row->want->inverse,
                             .reference = row->x[best - first],
                             .score = (double)-INFINITY,
                             .id = best};
    gw_pick_try(&d, d.reference, best);
    v->draw(&d, row->x, columns, first);
    part->entries[0] = (struct gw_pick_entry){.id = d.id, .logit = row->x[d.id - first] + 0.0f};
}

/* ---- a row ---- */

static void pick_by_logit(const struct gw_pick_row *row, const struct gw_pick_variant *v, uint32_t first,
                          uint32_t columns, struct gw_pick_heap *h)
{
    struct gw_pick_part *part = row->part;
    uint32_t keep = row->want->keep < columns ? row->want->keep : columns;
    part->entries_len = best_of(row, v, first, columns, keep, h);
    part->all = part->entries_len < keep || keep == columns;
    for (uint32_t i = 0; i < part->entries_len; i++)
        part->entries[i] =
            (struct gw_pick_entry){.id = (uint32_t)h->words[i], .logit = gw_pick_word_logit(h->words[i])};
}

static void pick_top(const struct gw_pick_row *row, const struct gw_pick_variant *v, uint32_t first,
                     uint32_t columns, struct gw_pick_heap *h)
{
    struct gw_pick_part *part = row->part;
    part->top_len = 0;
    if (row->want->top == 0) return;
    part->top_len = best_of(row, v, first, columns, row->want->top, h);
    for (uint32_t i = 0; i < part->top_len; i++) {
        float logit = gw_pick_word_logit(h->words[i]);
        part->top[i] = (struct gw_pick_entry){.id = (uint32_t)h->words[i], .logit = logit, .raw = logit};
    }
}

/* Columns of a share, counted from the row's first; returns how many. */
static uint32_t share_of(const struct gw_pick_row *row, uint32_t share, const float **x)
{
    uint32_t first = gw_pick_share_at(row->vocab, row->shares, row->share_first);
    uint32_t at = gw_pick_share_at(row->vocab, row->shares, share);
    *x = row->x + (at - first);
    return gw_pick_share_at(row->vocab, row->shares, share + 1) - at;
}

/* The sums of each share of the row. */
static void sum_shares(const struct gw_pick_row *row, const struct gw_pick_variant *v, float inverse,
                       struct gw_pick_sum *out)
{
    for (uint32_t s = row->share_first; s < row->share_last; s++, out++) {
        const float *x;
        uint32_t columns = share_of(row, s, &x);
        *out = v->sum(x, columns, inverse);
        out->max += 0.0f; /* a denormal or -0 becomes 0 */
    }
}

static void pick_row(const struct gw_pick_row *row, const struct gw_pick_variant *v, struct gw_pick_heap *h)
{
    const struct gw_pick_want *want = row->want;
    uint32_t first = gw_pick_share_at(row->vocab, row->shares, row->share_first);
    uint32_t columns = gw_pick_share_at(row->vocab, row->shares, row->share_last) - first;
    assert(row->shares >= 1 && row->shares <= GW_SHARES_MAX && row->share_last <= row->shares);
    row->part->shares = row->share_last - row->share_first;
    if (want->stats) sum_shares(row, v, 1, row->part->stats);
    pick_top(row, v, first, columns, h);
    gw_pick_edit(row->x, first, columns, &want->edits, row->kept);
    if (want->weights) sum_shares(row, v, want->inverse, row->part->weights);
    if (want->keep)
        pick_by_logit(row, v, first, columns, h);
    else
        pick_by_score(row, v, first, columns, h);
    gw_pick_undo(row->x, first, columns, &want->edits, row->kept);
    for (uint32_t i = 0; i < row->part->entries_len; i++)
        row->part->entries[i].raw = row->x[row->part->entries[i].id - first];
}

void gw_pick_rows(const void *arg, void *scratch, size_t first, size_t last)
{
    const struct gw_pick_job *job = arg;
    for (size_t i = first; i < last; i++) pick_row(&job->rows[i], job->variant, scratch);
}
