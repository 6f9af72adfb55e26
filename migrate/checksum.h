/* Checksum: 64 bits over a page or a table, to find what broken links, memory and programs did to it.
 *
 * Eight lanes of 64 bits over stripes of 64 bytes (the last one filled up with zeros). With x the lane's word of stripe j:
 *
 *     k        = x ^ (K[lane] + j · STEP)
 *     acc[lane]     += low32(k) · high32(k)
 *     acc[lane ^ 1] += x
 *
 * then the lanes and the length are mixed into one word. One wrong word is always found (the neighbour's sum differs), what
 * moved to another place with odds of 2^-64, for a key goes with each place. The same value on every machine. Measured
 * beside CRC32C by the crc32 instruction (4 lanes, Cascade Lake, a page of 32 KiB in L2): 43 GB/s against 22 (make
 * bench-migrate); of pages that come from memory both take what reading them takes, 7 to 9 GB/s. No protection against who
 * wants to be believed: senders are authenticated (shake.h), and hold the cluster key.
 *
 * Owner: none. Thread: safe. Units: bytes. Errors: none. Source: own design, after XXH3's accumulation step (Collet). */
#ifndef GW_MIGRATE_CHECKSUM_H
#define GW_MIGRATE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t gw_checksum(const void *bytes, size_t len);

/* The same by one implementation, for tests: 0 plain C, 1 AVX2, 2 AVX-512. One that this machine has not falls back to
 * plain C. */
uint64_t gw_checksum_by(int variant, const void *bytes, size_t len);

#endif
