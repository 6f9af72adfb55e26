/* Stop strings of one branch, found across token borders before anything that belongs to one is sent.
 *
 * Text goes in as it is detokenized; out comes what is certain not to be the beginning of a stop string. When
 * one is complete, everything from its first byte on is dropped (or kept through its end with include_stop).
 * The earliest match in the text wins; of matches that end at the same byte the one that began first. The
 * result does not depend on how the text was cut into pieces.
 *
 * Each string runs its own Knuth-Morris-Pratt automaton, so that a byte costs O(strings) on average, whatever
 * text and strings are. What is held is the longest beginning of a stop string that the text ends with.
 *
 * Owner: init/fini; the strings are copied. Thread: one. Units: bytes.
 * Errors: GW_ERR_LIMIT, GW_ERR_MEMORY. Source: Knuth, Morris, Pratt 1977; own design. */
#ifndef GW_CONTROLLER_STOPS_H
#define GW_CONTROLLER_STOPS_H

#include "base/buf.h"

#define GW_STOPS_MAX       16  /* strings per request (OpenAI allows 4, vLLM more) */
#define GW_STOPS_BYTES_MAX 512 /* of one string */

struct gw_stops {
    char *strings[GW_STOPS_MAX];
    size_t lens[GW_STOPS_MAX];
    uint16_t *borders[GW_STOPS_MAX]; /* borders[i][k]: longest proper border of the first k + 1 bytes */
    size_t matched[GW_STOPS_MAX];    /* so many first bytes of strings[i] end the text so far */
    int len;
    bool include_stop, hit;
    struct gw_buf held; /* may be the beginning of a stop string */
};

/* Copies len strings (at most GW_STOPS_MAX, each of 1 to GW_STOPS_BYTES_MAX bytes; else GW_ERR_LIMIT). On
 * error nothing is held, and fini is harmless. */
gw_err_t gw_stops_init(struct gw_stops *s, const char *const *strings, int len,
                       bool include_stop) GW_MUST_USE;
void gw_stops_fini(struct gw_stops *s);

/* Feeds text; appends what may be shown to out. Returns true once a stop string is complete (then and ever
 * after). */
bool gw_stops_push(struct gw_stops *s, const char *text, size_t len, struct gw_buf *out);
/* The generation ended otherwise: appends what was held. */
void gw_stops_flush(struct gw_stops *s, struct gw_buf *out);

#endif
