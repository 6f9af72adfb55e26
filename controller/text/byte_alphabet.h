/* The byte alphabet of byte-level BPE: tokenizer.json writes each byte as one printable character.
 *
 *     bytes 33-126, 161-172, 174-255   the character of the same number
 *     the other 68, in ascending order  U+0100, U+0101, ... U+0143     (space = U+0120 "Ġ", newline = U+010A
 * "Ċ")
 *
 * Owner: caller memory. Thread: safe. Units: bytes. Errors: answers only. Source: GPT-2's bytes_to_unicode.
 */
#ifndef GW_CONTROLLER_BYTE_ALPHABET_H
#define GW_CONTROLLER_BYTE_ALPHABET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Turns len bytes of UTF-8 text in the alphabet into the bytes they stand for. out holds at least len;
 * *out_len is set. False if a character is not in the alphabet (out and *out_len are then undefined). */
bool gw_byte_alphabet_decode(const char *text, size_t len, uint8_t *out, size_t *out_len);

#endif
