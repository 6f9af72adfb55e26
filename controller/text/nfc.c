#include "controller/text/nfc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define DECOMPOSED_MAX 4 /* code points that one can decompose to canonically (Unicode 15: 4, U+1F82 ...) */

bool gw_nfc_trivial(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((uint8_t)text[i] >= 0xCC) return false; /* the lead byte of U+0300 */
    return true;
}

/* A code point with its combining class beside it, for sorting. */
struct mark {
    utf8proc_int32_t c;
    int32_t class;
};

static int mark_class(utf8proc_int32_t c)
{
    return utf8proc_get_property(c)->combining_class;
}

/* Stable merge sort of marks[0..n) by class; tmp has n. */
static void sort_marks(struct mark *marks, struct mark *tmp, size_t n)
{
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            size_t mid = lo + width < n ? lo + width : n, hi = mid + width < n ? mid + width : n;
            size_t i = lo, j = mid;
            for (size_t k = lo; k < hi; k++)
                tmp[k] = i < mid && (j >= hi || marks[i].class <= marks[j].class) ? marks[i++] : marks[j++];
        }
        memcpy(marks, tmp, n * sizeof *marks);
    }
}

/* Canonical ordering: each run of characters with class > 0 is sorted by class. */
static void order_marks(struct mark *marks, struct mark *tmp, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && marks[end].class > 0) end++;
        if (end - i > 1) sort_marks(marks + i, tmp, end - i);
        i = end + 1;
    }
}

/* Code points of text, canonically decomposed. marks has room for two per byte: the worst are U+0390 (2 bytes
 * of UTF-8, 3 code points) and U+1F82 (3 and 4). */
static gw_err_t decompose(const char *text, size_t len, struct mark *marks, size_t *count)
{
    const utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        utf8proc_int32_t c, parts[DECOMPOSED_MAX];
        int boundary = 0;
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(len - i), &c);
        if (used <= 0) return GW_ERR_INPUT;
        utf8proc_ssize_t got = utf8proc_decompose_char(c, parts, DECOMPOSED_MAX, how, &boundary);
        if (got < 0 || got > DECOMPOSED_MAX) return GW_ERR_INTERNAL;
        for (utf8proc_ssize_t k = 0; k < got; k++)
            marks[n++] = (struct mark){.c = parts[k], .class = mark_class(parts[k])};
        i += (size_t)used;
    }
    *count = n;
    return GW_OK;
}

/* Composes and encodes n code points in place; the block then belongs to the caller as text. */
static gw_err_t compose(utf8proc_int32_t *points, size_t n, size_t *out_len)
{
    utf8proc_ssize_t got = utf8proc_reencode(points, (utf8proc_ssize_t)n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (got < 0) return GW_ERR_INTERNAL;
    *out_len = (size_t)got;
    return GW_OK;
}

gw_err_t gw_nfc(const char *text, size_t len, char **out, size_t *out_len)
{
    gw_err_t err = GW_OK;
    size_t room = 2 * len + 1, n = 0;
    struct mark *marks = malloc(room * sizeof *marks), *tmp = NULL;
    utf8proc_int32_t *points = NULL;
    if (!marks) return GW_ERR_MEMORY;
    TRY_GOTO(decompose(text, len, marks, &n), out);
    tmp = malloc((n + 1) * sizeof *tmp);
    points = malloc((n + 1) * sizeof *points); /* reencode puts a NUL behind the last */
    if (!tmp || !points) {
        err = GW_ERR_MEMORY;
        goto out;
    }
    order_marks(marks, tmp, n);
    for (size_t i = 0; i < n; i++) points[i] = marks[i].c;
    TRY_GOTO(compose(points, n, out_len), out);
    *out = (char *)points;
    points = NULL;
out:
    free(points);
    free(tmp);
    free(marks);
    return err;
}
