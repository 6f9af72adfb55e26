/* Unicode text as Python's str sees it: code points, white space, upper, lower and title case.
 *
 * Chat templates are written for Python, so its rules are followed: full case mappings ("ß" → "SS"), the
 * final sigma, white space as in str.isspace.
 *
 * Owner: borrows; results go to the caller's buffer. Thread: safe. Units: bytes, code points.
 * Errors: the buffer's sticky error; malformed bytes count as one code point each.
 * Source: Unicode 14 (SpecialCasing.txt), utf8proc. */
#ifndef GW_CONTROLLER_UTEXT_H
#define GW_CONTROLLER_UTEXT_H

#include "base/buf.h"

/* Decodes the code point at text[0], len >= 1; returns its bytes, 1-4. */
size_t gw_utext_next(const char *text, size_t len, int32_t *c);

size_t gw_utext_count(const char *text, size_t len);

/* Byte offset of the code point with that index; len if there are not so many. */
size_t gw_utext_offset(const char *text, size_t len, size_t index);

/* First place of part (len >= 1) in text; NULL if there is none. Linear, and finding all places is too. */
const char *gw_utext_find(const char *text, size_t len, const char *part, size_t part_len);

bool gw_utext_is_space(int32_t c);

enum gw_utext_sides { GW_UTEXT_LEFT = 1, GW_UTEXT_RIGHT = 2, GW_UTEXT_BOTH = 3 };

/* Moves *text and *len past white space, or past the characters of set if that is not NULL. */
void gw_utext_strip(const char **text, size_t *len, const char *set, size_t set_len,
                    enum gw_utext_sides sides);

enum gw_utext_case {
    GW_UTEXT_UPPER,
    GW_UTEXT_LOWER,
    GW_UTEXT_CAPITALIZE, /* the first character in title case, the others lower */
    GW_UTEXT_TITLE,      /* each letter that follows no letter in title case, the others lower */
};
void gw_utext_put_case(struct gw_buf *out, const char *text, size_t len, enum gw_utext_case to);

#endif
