#include "base/utf8.h"

/* Table 3-7: the range of the second byte depends on the first; the rest are 80..BF. */
static int sequence_shape(uint8_t lead, uint8_t *second_min, uint8_t *second_max)
{
    *second_min = 0x80;
    *second_max = 0xBF;
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    if (lead < 0xE0) return 2;
    if (lead < 0xF0) {
        if (lead == 0xE0) *second_min = 0xA0;
        if (lead == 0xED) *second_max = 0x9F;
        return 3;
    }
    if (lead > 0xF4) return 0;
    if (lead == 0xF0) *second_min = 0x90;
    if (lead == 0xF4) *second_max = 0x8F;
    return 4;
}

int gw_utf8_sequence(const uint8_t *text, size_t len)
{
    uint8_t min, max;
    int need = sequence_shape(text[0], &min, &max);
    if (need <= 1) return need;
    if (len < 2) return -1;
    if (text[1] < min || text[1] > max) return 0;
    for (int i = 2; i < need; i++) {
        if ((size_t)i >= len) return -1;
        if (text[i] < 0x80 || text[i] > 0xBF) return 0;
    }
    return need;
}

bool gw_utf8_valid(const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;
    while (len > 0) {
        int n = gw_utf8_sequence(p, len);
        if (n <= 0) return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}
