/* NFC: Unicode's canonical composition of a text, in linear time (but for a log factor) on any text.
 *
 * utf8proc's own map sorts combining marks by swapping neighbours, which a megabyte of alternating marks
 * makes quadratic; here runs of marks are sorted by merging, and utf8proc decomposes and composes.
 *
 * Owner: the caller frees the result. Thread: safe. Units: bytes. Errors: GW_ERR_MEMORY, GW_ERR_INPUT (not
 * UTF-8). Source: UAX #15. */
#ifndef GW_CONTROLLER_NFC_H
#define GW_CONTROLLER_NFC_H

#include "base/err.h"

/* True if the text is in NFC for sure (it has no character from U+0300 on); false says nothing. */
bool gw_nfc_trivial(const char *text, size_t len);

/* *out is malloc'ed, with a NUL behind it; on error unchanged. */
gw_err_t gw_nfc(const char *text, size_t len, char **out, size_t *out_len) GW_MUST_USE;

#endif
