/* Numerics profiles: the arithmetic that this build knows, and the digest that each must have.
 *
 * A profile names every output bit (DESIGN part 4). Its digest is kernels/digest.h's, computed by a worker
 * when it starts; only a worker whose digest is the constant here may serve. A change that moves a bit makes
 * a new profile with a new digest, never a new digest for an old name.
 *
 * Owner: constants. Thread: safe. Units: none. Errors: none. Source: own design. */
#ifndef GW_MIGRATE_PROFILE_H
#define GW_MIGRATE_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GW_PROFILE_CPU_BF16          "cpu-bf16dot-2"
#define GW_PROFILE_CPU_F32           "cpu-f32-2"
#define GW_PROFILE_CPU_BF16_INT8     "cpu-bf16-int8-1" /* weights int8, the rest as above */
#define GW_PROFILE_CPU_F32_INT8      "cpu-f32-int8-1"
#define GW_PROFILE_CPU_BF16_FP8      "cpu-bf16-fp8-1" /* weights e4m3 */
#define GW_PROFILE_CPU_F32_FP8       "cpu-f32-fp8-1"
#define GW_PROFILE_CPU_BF16_KV8      "cpu-bf16-kv8-1" /* KV pages int8 */
#define GW_PROFILE_CPU_F32_KV8       "cpu-f32-kv8-1"
#define GW_PROFILE_CPU_BF16_INT8_KV8 "cpu-bf16-int8-kv8-1" /* weights and KV pages int8 */
#define GW_PROFILE_CPU_F32_INT8_KV8  "cpu-f32-int8-kv8-1"
#define GW_PROFILE_CPU_BF16_FP8_KV8  "cpu-bf16-fp8-kv8-1" /* weights e4m3, KV pages int8 */
#define GW_PROFILE_CPU_F32_FP8_KV8   "cpu-f32-fp8-kv8-1"
/* bf16 as AMX's tiles add it up: never chosen but by name. */
#define GW_PROFILE_CPU_BF16AMX     "cpu-bf16amx-1"
#define GW_PROFILE_CPU_BF16AMX_KV8 "cpu-bf16amx-kv8-1"
/* Of the release before, whose workers may still serve, in pipelines of their own: there samplers added up whole rows. */
#define GW_PROFILE_CPU_BF16_BEFORE "cpu-bf16dot-1"
#define GW_PROFILE_CPU_F32_BEFORE  "cpu-f32-1"

bool gw_profile_known(const char *name);

/* Does a request that was moved, or taken up from its log, go on with the same bits? All but the `-fast` ones promise it,
 * a digest behind that or not. */
bool gw_profile_exact(const char *name);

/* Of a GPU nobody knows the digest beforehand: how a tensor core rounds is its architecture's affair. So its profile is named
 * for the digest, "cuda-sm90-exact-1-<first 8 bytes, hex>": devices of other bits are of another profile, and never serve one
 * request. out is cut at its end. */
void gw_profile_name(const char *arithmetic, const uint8_t digest[32], char *out, size_t out_bytes);

/* Is `digest` what this profile must have? A GPU's: what its name says. False for unknown profiles. */
bool gw_profile_digest_ok(const char *profile, const uint8_t digest[32]);

#endif
