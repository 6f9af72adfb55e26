#include "controller/text/utext.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

#define REPLACEMENT 0xFFFD
#define FIND_WINDOW 4096 /* places searched at a time */

/* Code points whose upper or title case is not one code point: SpecialCasing.txt without conditions. */
static const struct special {
    int32_t c;
    const char *upper, *title;
} specials[] = {{0x00DF, "SS", "Ss"},
                {0x0149, "\u02BCN", "\u02BCN"},
                {0x01F0, "J\u030C", "J\u030C"},
                {0x0390, "\u0399\u0308\u0301", "\u0399\u0308\u0301"},
                {0x03B0, "\u03A5\u0308\u0301", "\u03A5\u0308\u0301"},
                {0x0587, "\u0535\u0552", "\u0535\u0582"},
                {0x1E96, "H\u0331", "H\u0331"},
                {0x1E97, "T\u0308", "T\u0308"},
                {0x1E98, "W\u030A", "W\u030A"},
                {0x1E99, "Y\u030A", "Y\u030A"},
                {0x1E9A, "A\u02BE", "A\u02BE"},
                {0x1F50, "\u03A5\u0313", "\u03A5\u0313"},
                {0x1F52, "\u03A5\u0313\u0300", "\u03A5\u0313\u0300"},
                {0x1F54, "\u03A5\u0313\u0301", "\u03A5\u0313\u0301"},
                {0x1F56, "\u03A5\u0313\u0342", "\u03A5\u0313\u0342"},
                {0x1F80, "\u1F08\u0399", "\u1F88"},
                {0x1F81, "\u1F09\u0399", "\u1F89"},
                {0x1F82, "\u1F0A\u0399", "\u1F8A"},
                {0x1F83, "\u1F0B\u0399", "\u1F8B"},
                {0x1F84, "\u1F0C\u0399", "\u1F8C"},
                {0x1F85, "\u1F0D\u0399", "\u1F8D"},
                {0x1F86, "\u1F0E\u0399", "\u1F8E"},
                {0x1F87, "\u1F0F\u0399", "\u1F8F"},
                {0x1F88, "\u1F08\u0399", "\u1F88"},
                {0x1F89, "\u1F09\u0399", "\u1F89"},
                {0x1F8A, "\u1F0A\u0399", "\u1F8A"},
                {0x1F8B, "\u1F0B\u0399", "\u1F8B"},
                {0x1F8C, "\u1F0C\u0399", "\u1F8C"},
                {0x1F8D, "\u1F0D\u0399", "\u1F8D"},
                {0x1F8E, "\u1F0E\u0399", "\u1F8E"},
                {0x1F8F, "\u1F0F\u0399", "\u1F8F"},
                {0x1F90, "\u1F28\u0399", "\u1F98"},
                {0x1F91, "\u1F29\u0399", "\u1F99"},
                {0x1F92, "\u1F2A\u0399", "\u1F9A"},
                {0x1F93, "\u1F2B\u0399", "\u1F9B"},
                {0x1F94, "\u1F2C\u0399", "\u1F9C"},
                {0x1F95, "\u1F2D\u0399", "\u1F9D"},
                {0x1F96, "\u1F2E\u0399", "\u1F9E"},
                {0x1F97, "\u1F2F\u0399", "\u1F9F"},
                {0x1F98, "\u1F28\u0399", "\u1F98"},
                {0x1F99, "\u1F29\u0399", "\u1F99"},
                {0x1F9A, "\u1F2A\u0399", "\u1F9A"},
                {0x1F9B, "\u1F2B\u0399", "\u1F9B"},
                {0x1F9C, "\u1F2C\u0399", "\u1F9C"},
                {0x1F9D, "\u1F2D\u0399", "\u1F9D"},
                {0x1F9E, "\u1F2E\u0399", "\u1F9E"},
                {0x1F9F, "\u1F2F\u0399", "\u1F9F"},
                {0x1FA0, "\u1F68\u0399", "\u1FA8"},
                {0x1FA1, "\u1F69\u0399", "\u1FA9"},
                {0x1FA2, "\u1F6A\u0399", "\u1FAA"},
                {0x1FA3, "\u1F6B\u0399", "\u1FAB"},
                {0x1FA4, "\u1F6C\u0399", "\u1FAC"},
                {0x1FA5, "\u1F6D\u0399", "\u1FAD"},
                {0x1FA6, "\u1F6E\u0399", "\u1FAE"},
                {0x1FA7, "\u1F6F\u0399", "\u1FAF"},
                {0x1FA8, "\u1F68\u0399", "\u1FA8"},
                {0x1FA9, "\u1F69\u0399", "\u1FA9"},
                {0x1FAA, "\u1F6A\u0399", "\u1FAA"},
                {0x1FAB, "\u1F6B\u0399", "\u1FAB"},
                {0x1FAC, "\u1F6C\u0399", "\u1FAC"},
                {0x1FAD, "\u1F6D\u0399", "\u1FAD"},
                {0x1FAE, "\u1F6E\u0399", "\u1FAE"},
                {0x1FAF, "\u1F6F\u0399", "\u1FAF"},
                {0x1FB2, "\u1FBA\u0399", "\u1FBA\u0345"},
                {0x1FB3, "\u0391\u0399", "\u1FBC"},
                {0x1FB4, "\u0386\u0399", "\u0386\u0345"},
                {0x1FB6, "\u0391\u0342", "\u0391\u0342"},
                {0x1FB7, "\u0391\u0342\u0399", "\u0391\u0342\u0345"},
                {0x1FBC, "\u0391\u0399", "\u1FBC"},
                {0x1FC2, "\u1FCA\u0399", "\u1FCA\u0345"},
                {0x1FC3, "\u0397\u0399", "\u1FCC"},
                {0x1FC4, "\u0389\u0399", "\u0389\u0345"},
                {0x1FC6, "\u0397\u0342", "\u0397\u0342"},
                {0x1FC7, "\u0397\u0342\u0399", "\u0397\u0342\u0345"},
                {0x1FCC, "\u0397\u0399", "\u1FCC"},
                {0x1FD2, "\u0399\u0308\u0300", "\u0399\u0308\u0300"},
                {0x1FD3, "\u0399\u0308\u0301", "\u0399\u0308\u0301"},
                {0x1FD6, "\u0399\u0342", "\u0399\u0342"},
                {0x1FD7, "\u0399\u0308\u0342", "\u0399\u0308\u0342"},
                {0x1FE2, "\u03A5\u0308\u0300", "\u03A5\u0308\u0300"},
                {0x1FE3, "\u03A5\u0308\u0301", "\u03A5\u0308\u0301"},
                {0x1FE4, "\u03A1\u0313", "\u03A1\u0313"},
                {0x1FE6, "\u03A5\u0342", "\u03A5\u0342"},
                {0x1FE7, "\u03A5\u0308\u0342", "\u03A5\u0308\u0342"},
                {0x1FF2, "\u1FFA\u0399", "\u1FFA\u0345"},
                {0x1FF3, "\u03A9\u0399", "\u1FFC"},
                {0x1FF4, "\u038F\u0399", "\u038F\u0345"},
                {0x1FF6, "\u03A9\u0342", "\u03A9\u0342"},
                {0x1FF7, "\u03A9\u0342\u0399", "\u03A9\u0342\u0345"},
                {0x1FFC, "\u03A9\u0399", "\u1FFC"},
                {0xFB00, "FF", "Ff"},
                {0xFB01, "FI", "Fi"},
                {0xFB02, "FL", "Fl"},
                {0xFB03, "FFI", "Ffi"},
                {0xFB04, "FFL", "Ffl"},
                {0xFB05, "ST", "St"},
                {0xFB06, "ST", "St"},
                {0xFB13, "\u0544\u0546", "\u0544\u0576"},
                {0xFB14, "\u0544\u0535", "\u0544\u0565"},
                {0xFB15, "\u0544\u053B", "\u0544\u056B"},
                {0xFB16, "\u054E\u0546", "\u054E\u0576"},
                {0xFB17, "\u0544\u053D", "\u0544\u056D"}};

size_t gw_utext_next(const char *text, size_t len, int32_t *c)
{
    const uint8_t *p = (const uint8_t *)text;
    static const uint8_t lead_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    int n = gw_utf8_sequence(p, len);
    if (n <= 0) {
        *c = REPLACEMENT;
        return 1;
    }
    int32_t value = p[0] & lead_bits[n];
    for (int i = 1; i < n; i++) value = value << 6 | (p[i] & 0x3F);
    *c = value;
    return (size_t)n;
}

size_t gw_utext_count(const char *text, size_t len)
{
    size_t count = 0;
    int32_t c;
    for (size_t at = 0; at < len; count++) at += gw_utext_next(text + at, len - at, &c);
    return count;
}

size_t gw_utext_offset(const char *text, size_t len, size_t index)
{
    size_t at = 0;
    int32_t c;
    for (; index > 0 && at < len; index--) at += gw_utext_next(text + at, len - at, &c);
    return at;
}

/* Window by window: AddressSanitizer's memmem looks over all of its text for each place that it finds. */
const char *gw_utext_find(const char *text, size_t len, const char *part, size_t part_len)
{
    while (len >= part_len && part_len > 0) {
        size_t window = len < FIND_WINDOW + part_len ? len : FIND_WINDOW + part_len;
        const char *at = memmem(text, window, part, part_len);
        if (at) return at;
        size_t done = window - part_len + 1;
        text += done;
        len -= done;
    }
    return NULL;
}

bool gw_utext_is_space(int32_t c)
{
    if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool to_strip(int32_t c, const char *set, size_t set_len)
{
    if (!set) return gw_utext_is_space(c);
    int32_t member;
    for (size_t i = 0; i < set_len;) {
        i += gw_utext_next(set + i, set_len - i, &member);
        if (member == c) return true;
    }
    return false;
}

/* The code point that ends at text[len]. */
static size_t last(const char *text, size_t len, int32_t *c)
{
    for (size_t n = 1; n <= 4 && n <= len; n++)
        if (gw_utext_next(text + len - n, n, c) == n && (n > 1 || *c != REPLACEMENT)) return n;
    *c = REPLACEMENT;
    return 1;
}

void gw_utext_strip(const char **text, size_t *len, const char *set, size_t set_len,
                    enum gw_utext_sides sides)
{
    int32_t c;
    while ((sides & GW_UTEXT_LEFT) && *len > 0) {
        size_t n = gw_utext_next(*text, *len, &c);
        if (!to_strip(c, set, set_len)) break;
        *text += n;
        *len -= n;
    }
    while ((sides & GW_UTEXT_RIGHT) && *len > 0) {
        size_t n = last(*text, *len, &c);
        if (!to_strip(c, set, set_len)) break;
        *len -= n;
    }
}

static const struct special *special_of(int32_t c)
{
    size_t lo = 0, hi = sizeof specials / sizeof *specials;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (specials[mid].c == c) return &specials[mid];
        if (specials[mid].c < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static void put_point(struct gw_buf *out, int32_t c)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(c, bytes);
    gw_buf_put(out, bytes, n > 0 ? (size_t)n : 0);
}

static void put_upper(struct gw_buf *out, int32_t c, bool title)
{
    const struct special *s = c < 0x80 ? NULL : special_of(c);
    if (s)
        gw_buf_puts(out, title ? s->title : s->upper);
    else
        put_point(out, title ? utf8proc_totitle(c) : utf8proc_toupper(c));
}

static bool is_cased(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    if (k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT) return true;
    return utf8proc_toupper(c) != c || utf8proc_tolower(c) != c; /* letters in circles, Roman numerals */
}

/* What the rule of the final sigma looks through. */
static bool is_case_ignorable(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    if (k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
        k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK)
        return true;
    return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x2018 || c == 0x2019 || c == 0x2024 ||
           c == 0x2027;
}

/* Is the next character that is not case-ignorable a cased one? */
static bool cased_follows(const char *text, size_t len)
{
    int32_t c;
    for (size_t at = 0; at < len;) {
        at += gw_utext_next(text + at, len - at, &c);
        if (!is_case_ignorable(c)) return is_cased(c);
    }
    return false;
}

static void put_lower(struct gw_buf *out, int32_t c, bool after_cased, const char *rest, size_t rest_len)
{
    if (c == 0x130)
        gw_buf_puts(out, "i\u0307");
    else if (c == 0x3A3 && after_cased && !cased_follows(rest, rest_len))
        put_point(out, 0x3C2);
    else
        put_point(out, utf8proc_tolower(c));
}

void gw_utext_put_case(struct gw_buf *out, const char *text, size_t len, enum gw_utext_case to)
{
    bool after_cased = false;   /* for the final sigma: looking back through what is case-ignorable */
    bool letter_before = false; /* for titles */
    int32_t c;
    for (size_t at = 0, n; at < len; at += n) {
        n = gw_utext_next(text + at, len - at, &c);
        if (to == GW_UTEXT_UPPER)
            put_upper(out, c, false);
        else if ((to == GW_UTEXT_CAPITALIZE && at == 0) || (to == GW_UTEXT_TITLE && !letter_before))
            put_upper(out, c, true);
        else
            put_lower(out, c, after_cased, text + at + n, len - at - n);
        letter_before = is_cased(c);
        if (!is_case_ignorable(c)) after_cased = letter_before;
    }
}
