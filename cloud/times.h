/* Times as clouds write them, to milliseconds since 1970.
 *
 *     gw_time_parse_iso     2017-09-18T08:22:00Z   2017-09-18T08:22:00.123Z          (AWS, GCP)
 *     gw_time_parse_http    Mon, 19 Sep 2016 18:29:47 GMT   21 Jan 2019 09:00:43 GMT  (HTTP, Azure, AWS events)
 *
 * Owner: borrows. Thread: safe; no locale, no time zone but GMT. Units: milliseconds since 1970.
 * Errors: GW_ERR_INPUT on anything else; *out is unchanged then. Source: RFC 3339, RFC 9110 (IMF-fixdate). */
#ifndef GW_CLOUD_TIMES_H
#define GW_CLOUD_TIMES_H

#include <stdint.h>

#include "base/err.h"

gw_err_t gw_time_parse_iso(const char *text, int64_t *unix_ms) GW_MUST_USE;
gw_err_t gw_time_parse_http(const char *text, int64_t *unix_ms) GW_MUST_USE;

#define GW_TIME_ISO_BYTES 32
/* "2017-09-18T08:22:00Z" into out[GW_TIME_ISO_BYTES]. */
void gw_time_print_iso(int64_t unix_ms, char *out);

#endif
