/* UTF-8: is it well formed, and where does a character end?
 *
 * Owner: borrows. Thread: safe. Units: bytes. Errors: none, answers only. Source: Unicode 15, table 3-7. */
#ifndef GW_BASE_UTF8_H
#define GW_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True if the bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool gw_utf8_valid(const char *text, size_t len);

/* Length (1-4) of the well-formed UTF-8 sequence at text, 0 if it is malformed, -1 if it is a well-formed
 * prefix that needs more bytes than len. len >= 1. */
int gw_utf8_sequence(const uint8_t *text, size_t len);

#endif
