/* Fingerprint: which model is this, to the last bit that can change an output?
 *
 * The first 16 bytes of SHA-256 over config.json, every weight file (names, sizes, bytes), and the constants
 * of the arithmetic that no profile names: the rule that cuts a model into cells and the attention chunk.
 * RoPE parameters and shapes are in config.json. Weights that are quantized when they are loaded, and KV that is, make another
 * model of the same files: the fingerprint is then hashed once more, with the format's name (gw_fingerprint_model). Two processes may work on one request iff they have the same
 * fingerprint (and the same profile and digest).
 *
 * Hashing gigabytes takes seconds, so the result for large models is kept beside the weights in
 * .godwit-fingerprint, or under $XDG_CACHE_HOME/godwit; it is used again while the names, sizes and
 * modification times of all files stay the same.
 *
 * Owner: caller memory. Thread: safe; two processes may race for the cache file (written by rename).
 * Units: bytes. Errors: GW_ERR_IO, GW_ERR_NOT_FOUND, GW_ERR_INPUT, GW_ERR_LIMIT; a cache that cannot be read
 * or written is no error. Source: own design; DESIGN part 4. */
#ifndef GW_MIGRATE_FINGERPRINT_H
#define GW_MIGRATE_FINGERPRINT_H

#include "migrate/kv_format.h"
#include "migrate/weight_format.h"
#include "migrate/wire.h"

/* Raised by any change of worker/cells.h's rules or of GW_ATTN_CHUNK (256): they enter every fingerprint. */
#define GW_FINGERPRINT_RULES "godwit cells-1 attention-chunk-256"

/* Models smaller than this are hashed each time: 64 MiB take 0.2 s even without SHA instructions. */
#define GW_FINGERPRINT_CACHE_MIN_BYTES (64u << 20)

/* On error out is unchanged. */
gw_err_t gw_fingerprint_dir(const char *dir, uint8_t out[GW_FINGERPRINT_BYTES],
                            struct gw_err_ctx *ctx) GW_MUST_USE;

/* Of the model as it is served. On error out is unchanged. */
gw_err_t gw_fingerprint_model(const char *dir, enum gw_weight_format weights, enum gw_kv_format kv,
                              uint8_t out[GW_FINGERPRINT_BYTES], struct gw_err_ctx *ctx) GW_MUST_USE;

#endif
