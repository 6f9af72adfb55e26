#include "controller/text/byte_alphabet.h"

/* All characters of the alphabet are below U+0800, so one or two bytes of UTF-8. */
static int next_char(const uint8_t *p, size_t len, size_t *used)
{
    if (p[0] < 0x80) {
        *used = 1;
        return p[0];
    }
    if (len < 2 || (p[0] & 0xE0) != 0xC0 || (p[1] & 0xC0) != 0x80) return -1;
    *used = 2;
    return (p[0] & 0x1F) << 6 | (p[1] & 0x3F);
}

static int byte_of(int c)
{
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255)) return c;
    if (c >= 256 && c <= 288) return c - 256;       /* 0-32 */
    if (c >= 289 && c <= 322) return c - 289 + 127; /* 127-160 */
    return c == 323 ? 173 : -1;
}

bool gw_byte_alphabet_decode(const char *text, size_t len, uint8_t *out, size_t *out_len)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t n = 0;
    for (size_t i = 0, used = 0; i < len; i += used) {
        int c = next_char(p + i, len - i, &used);
        int byte = c < 0 ? -1 : byte_of(c);
        if (byte < 0) return false;
        out[n++] = (uint8_t)byte;
    }
    *out_len = n;
    return true;
}
