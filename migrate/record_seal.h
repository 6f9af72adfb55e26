/* Record seals: a piece of the controller's journal as it lies on a disk or in Redis, so that nobody without the cluster
 * key can read prompts in it, forge a piece, or put one in another's place.
 *
 *     byte  size   field
 *        0    16   writer, random: chosen anew by each process and file, so that no two ever seal under one key
 *       16     8   sequence, never used twice by a writer: the nonce, with four zero bytes before it
 *       24     n   the record, AES-256-GCM
 *   24 + n    16   tag
 *
 *     key            = HKDF-SHA-256(cluster key, salt "godwit record seal 1", info: writer)
 *     authenticated  = place: whatever says where the record belongs (a file's head, a key in Redis)
 *
 * Integers little-endian. A counter as nonce bounds nothing in practice: 2^64 records under one key.
 *
 * Owner: gw_record_sealer_destroy wipes and frees. Thread: one sealer, one thread at a time. Units: bytes.
 * Errors: GW_ERR_PROTO from open: it is not what was sealed for this place (out is zeroed); GW_ERR_INPUT for a key of a
 * wrong length; GW_ERR_LIMIT; GW_ERR_MEMORY. Source: NIST SP 800-38D, RFC 5869; DESIGN part 5. */
#ifndef GW_MIGRATE_RECORD_SEAL_H
#define GW_MIGRATE_RECORD_SEAL_H

#include <stdint.h>

#include "base/err.h"

#define GW_RECORD_WRITER_BYTES 16
#define GW_RECORD_HEAD_BYTES   (GW_RECORD_WRITER_BYTES + 8)
#define GW_RECORD_SEAL_BYTES   (GW_RECORD_HEAD_BYTES + 16) /* what a seal adds */
#define GW_RECORD_BYTES_MAX    (256u << 20)                /* lengths are ints in OpenSSL */
#define GW_RECORD_PLACE_MAX    256

struct gw_record_sealer;

struct gw_record_writer {
    uint8_t bytes[GW_RECORD_WRITER_BYTES];
};

/* The key is used, not kept. */
gw_err_t gw_record_sealer_create(const void *key, size_t key_len, struct gw_record_sealer **out,
                                 struct gw_err_ctx *ctx) GW_MUST_USE;
void gw_record_sealer_destroy(struct gw_record_sealer *sealer);

/* Writes len + GW_RECORD_SEAL_BYTES bytes to out, which does not overlap record. (writer, sequence) is used once. */
gw_err_t gw_record_seal(struct gw_record_sealer *sealer, const struct gw_record_writer *writer,
                        uint64_t sequence, const void *place, size_t place_len, const void *record,
                        size_t len, uint8_t *out) GW_MUST_USE;

/* Opens sealed_len bytes that came from outside; sealed_len - GW_RECORD_SEAL_BYTES bytes go to out. */
gw_err_t gw_record_open(struct gw_record_sealer *sealer, const void *place, size_t place_len,
                        const uint8_t *sealed, size_t sealed_len, struct gw_record_writer *writer,
                        uint64_t *sequence, void *out) GW_MUST_USE;

#endif
