/* Tokenizer, inside: what is loaded once and then only read, shared by tokenizer.c (encode, answers),
 * tokenizer_load.c (tokenizer.json) and tokenizer_config.c (bos and eos).
 *
 * Owner: gw_tokenizer_open's caller. Thread: immutable after loading. Units: bytes, token ids.
 * Errors: as tokenizer.h. Source: own design. */
#ifndef GW_CONTROLLER_TOKENIZER_IMPL_H
#define GW_CONTROLLER_TOKENIZER_IMPL_H

#include <cjson/cJSON.h>

#include "controller/text/added.h"
#include "controller/text/bpe.h"
#include "controller/text/split.h"
#include "controller/text/tokenizer.h"
#include "controller/text/vocab.h"

#define GW_TOKENIZER_FILE_MAX    (64u << 20) /* tokenizer.json; Llama-3's has 9 to 17 MB */
#define GW_TOKENIZER_CONFIG_MAX  (16u << 20) /* the other files */
#define GW_TOKENIZER_TOKEN_MAX   4096u       /* bytes of one token as the file writes it */
#define GW_TOKENIZER_SPLITS_MAX  8
#define GW_TOKENIZER_AFFIX_MAX   16 /* ids in front of a text, and behind */
#define GW_TOKENIZER_EOS_IDS_MAX 16

/* Ids that the post-processor puts on one side of the text. */
struct gw_affix {
    uint32_t ids[GW_TOKENIZER_AFFIX_MAX];
    size_t len;
};

struct gw_tokenizer {
    struct gw_vocab vocab;
    struct gw_bpe bpe;
    struct gw_added added_raw;                        /* looked for in the text as it came */
    struct gw_added added_norm;                       /* looked for in the normalized text between those */
    bool nfc;                                         /* the normalizer */
    struct gw_split *splits[GW_TOKENIZER_SPLITS_MAX]; /* each cuts what the one before left */
    int splits_len;
    bool prefix_space;           /* ByteLevel: a word gets a space in front if it has none ... */
    struct gw_split *byte_split; /* ... then is cut by GPT-2's pattern, unless NULL */
    struct gw_affix prefix, suffix;
    char *bos, *eos;
    uint32_t eos_ids[GW_TOKENIZER_EOS_IDS_MAX];
    size_t eos_ids_len;
};

/* Fills a zeroed t from a parsed tokenizer.json. On error the caller closes t. */
gw_err_t gw_tokenizer_load(struct gw_tokenizer *t, const cJSON *root, struct gw_err_ctx *ctx) GW_MUST_USE;

/* Fills pre-tokenizer and normalizer of t. */
gw_err_t gw_tokenizer_load_stages(struct gw_tokenizer *t, const cJSON *root,
                                  struct gw_err_ctx *ctx) GW_MUST_USE;

/* Reads bos, eos and eos_ids of a loaded t from DIR's config files. */
gw_err_t gw_tokenizer_load_config(struct gw_tokenizer *t, const char *dir,
                                  struct gw_err_ctx *ctx) GW_MUST_USE;

/* The id of a token given as text: an added token, else a word; GW_VOCAB_NONE. */
uint32_t gw_tokenizer_find(const struct gw_tokenizer *t, const char *text);

/* {"type": "..."} → the type, "" if there is none. */
const char *gw_tokenizer_type(const cJSON *obj);

#endif
