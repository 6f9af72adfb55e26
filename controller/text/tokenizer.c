#include "controller/text/tokenizer_impl.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "controller/text/nfc.h"

#define TEXT_MAX ((size_t)16 << 20) /* bytes of one text; merging takes up to 40 bytes of memory for each */

gw_err_t gw_tokenizer_open(const char *dir, struct gw_tokenizer **out, struct gw_err_ctx *ctx)
{
    char path[PATH_MAX];
    cJSON *root = NULL;
    if (snprintf(path, sizeof path, "%s/tokenizer.json", dir) >= (int)sizeof path)
        return gw_fail(ctx, GW_ERR_LIMIT, "%s: path too long", dir);
    TRY(gw_json_parse_file(path, GW_TOKENIZER_FILE_MAX, &root, ctx));
    gw_err_t err = GW_OK;
    struct gw_tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        err = gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
        goto out;
    }
    err = gw_tokenizer_load(t, root, ctx);
    if (err != GW_OK) {
        gw_fail_prefix(ctx, err, "%s", path);
        goto out;
    }
    TRY_GOTO(gw_tokenizer_load_config(t, dir, ctx), out);
    *out = t;
    t = NULL;
out:
    gw_tokenizer_close(t);
    cJSON_Delete(root);
    return err;
}

void gw_tokenizer_close(struct gw_tokenizer *t)
{
    if (!t) return;
    for (int i = 0; i < t->splits_len; i++) gw_split_destroy(t->splits[i]);
    gw_split_destroy(t->byte_split);
    gw_added_fini(&t->added_raw);
    gw_added_fini(&t->added_norm);
    gw_bpe_fini(&t->bpe);
    gw_vocab_fini(&t->vocab);
    free(t->bos);
    free(t->eos);
    free(t);
}

/* One call of gw_tokenizer_encode. */
struct encoding {
    const struct gw_tokenizer *t;
    unsigned flags;
    struct gw_matcher matcher;
    struct gw_bpe_scratch scratch;
    struct gw_buf spaced; /* a word with its prefix space */
    struct gw_ids ids;
    struct gw_err_ctx *ctx;
};

static gw_err_t put_id(struct encoding *e, uint32_t id)
{
    gw_err_t err = gw_ids_put(&e->ids, id);
    return err == GW_OK ? GW_OK : gw_fail(e->ctx, err, "the text has more than %zu tokens", e->ids.max);
}

static gw_err_t encode_word(struct encoding *e, const char *word, size_t len)
{
    gw_err_t err = gw_bpe_encode(&e->t->bpe, (const uint8_t *)word, len, &e->scratch, &e->ids);
    if (err == GW_ERR_LIMIT) return gw_fail(e->ctx, err, "the text has more than %zu tokens", e->ids.max);
    return err == GW_OK ? GW_OK : gw_fail(e->ctx, err, "out of memory");
}

/* The ByteLevel step. */
static gw_err_t encode_byte_level(struct encoding *e, const char *text, size_t len)
{
    if (e->t->prefix_space && text[0] != ' ') {
        gw_buf_reset(&e->spaced);
        gw_buf_u8(&e->spaced, ' ');
        gw_buf_put(&e->spaced, text, len);
        if (e->spaced.err != GW_OK) return gw_fail(e->ctx, e->spaced.err, "out of memory");
        text = (const char *)e->spaced.data;
        len = e->spaced.len;
    }
    if (!e->t->byte_split) return encode_word(e, text, len);
    struct gw_split_walk walk = {.text = text, .len = len};
    for (;;) {
        const char *word;
        size_t word_len;
        TRY(gw_split_next(e->t->byte_split, &e->matcher, &walk, &word, &word_len, e->ctx));
        if (word_len == 0) return GW_OK;
        TRY(encode_word(e, word, word_len));
    }
}

/* Splits from stage on; depth <= GW_TOKENIZER_SPLITS_MAX. */
static gw_err_t encode_stage(struct encoding *e, int stage, const char *text, size_t len)
{
    if (stage == e->t->splits_len) return encode_byte_level(e, text, len);
    struct gw_split_walk walk = {.text = text, .len = len};
    for (;;) {
        const char *word;
        size_t word_len;
        TRY(gw_split_next(e->t->splits[stage], &e->matcher, &walk, &word, &word_len, e->ctx));
        if (word_len == 0) return GW_OK;
        TRY(encode_stage(e, stage + 1, word, word_len));
    }
}

typedef gw_err_t (*piece_fn)(struct encoding *e, const char *text, size_t len);

/* Emits the tokens of added and gives what lies between them to plain. A special token that must stay plain
 * text is no border: it belongs to the piece around it. */
static gw_err_t cut_added(struct encoding *e, const struct gw_added *added, const char *text, size_t len,
                          piece_fn plain)
{
    size_t from = 0, search = 0, start, match_len;
    uint32_t id;
    while (gw_added_find(added, text, len, search, &start, &match_len, &id)) {
        search = start + match_len;
        if (gw_tokenizer_is_special(e->t, id) && !(e->flags & GW_ENCODE_PARSE_SPECIAL)) continue;
        if (start > from) TRY(plain(e, text + from, start - from));
        TRY(put_id(e, id));
        from = search;
    }
    return len > from ? plain(e, text + from, len - from) : GW_OK;
}

static gw_err_t encode_plain(struct encoding *e, const char *text, size_t len)
{
    return encode_stage(e, 0, text, len);
}

static gw_err_t encode_normalized(struct encoding *e, const char *text, size_t len)
{
    if (!e->t->nfc || gw_nfc_trivial(text, len))
        return cut_added(e, &e->t->added_norm, text, len, encode_plain);
    char *nfc = NULL;
    size_t nfc_len = 0;
    gw_err_t err = gw_nfc(text, len, &nfc, &nfc_len);
    if (err != GW_OK) return gw_fail(e->ctx, err, "normalizing the text failed");
    err = cut_added(e, &e->t->added_norm, nfc, nfc_len, encode_plain);
    free(nfc);
    return err;
}

static gw_err_t put_affix(struct encoding *e, const struct gw_affix *affix)
{
    if (!(e->flags & GW_ENCODE_ADD_SPECIAL)) return GW_OK;
    for (size_t i = 0; i < affix->len; i++) TRY(put_id(e, affix->ids[i]));
    return GW_OK;
}

static gw_err_t encode_all(struct encoding *e, const char *text, size_t len)
{
    TRY(put_affix(e, &e->t->prefix));
    TRY(cut_added(e, &e->t->added_raw, text, len, encode_normalized));
    return put_affix(e, &e->t->suffix);
}

gw_err_t gw_tokenizer_encode(const struct gw_tokenizer *t, const char *text, size_t len, unsigned flags,
                             size_t max_ids, uint32_t **ids, size_t *ids_len, struct gw_err_ctx *ctx)
{
    if (len > TEXT_MAX)
        return gw_fail(ctx, GW_ERR_LIMIT, "a text of %zu bytes, at most %zu are tokenized", len, TEXT_MAX);
    if (!gw_utf8_valid(text, len)) return gw_fail(ctx, GW_ERR_INPUT, "the text is not valid UTF-8");
    struct encoding e = {.t = t, .flags = flags, .ctx = ctx, .ids = {.max = max_ids}};
    gw_buf_init(&e.spaced, 4 * TEXT_MAX); /* NFC can make a text longer, three times at most */
    gw_err_t err = gw_matcher_init(&e.matcher, len);
    if (err == GW_OK && !(e.ids.ids = malloc(sizeof *e.ids.ids))) err = GW_ERR_MEMORY;
    if (err == GW_OK) e.ids.cap = 1;
    if (err != GW_OK) {
        gw_fail(ctx, err, "out of memory");
        goto out;
    }
    TRY_GOTO(encode_all(&e, text, len), out);
    *ids = e.ids.ids;
    *ids_len = e.ids.len;
    e.ids.ids = NULL;
out:
    free(e.ids.ids);
    gw_matcher_fini(&e.matcher);
    gw_bpe_scratch_fini(&e.scratch);
    gw_buf_fini(&e.spaced);
    return err;
}

const char *gw_tokenizer_bytes(const struct gw_tokenizer *t, uint32_t id, size_t *len)
{
    return gw_vocab_bytes(&t->vocab, id, len);
}

bool gw_tokenizer_is_special(const struct gw_tokenizer *t, uint32_t id)
{
    return id < t->vocab.size && t->vocab.entries[id].special;
}

uint32_t gw_tokenizer_vocab(const struct gw_tokenizer *t)
{
    return t->vocab.size;
}

const char *gw_tokenizer_bos(const struct gw_tokenizer *t)
{
    return t->bos ? t->bos : "";
}

const char *gw_tokenizer_eos(const struct gw_tokenizer *t)
{
    return t->eos ? t->eos : "";
}

const uint32_t *gw_tokenizer_eos_ids(const struct gw_tokenizer *t, size_t *len)
{
    *len = t->eos_ids_len;
    return t->eos_ids;
}
