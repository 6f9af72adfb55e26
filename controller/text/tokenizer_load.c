/* tokenizer.json: vocabulary, merges, added tokens, and what the post-processor adds. */
#include "controller/text/tokenizer_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "controller/text/byte_alphabet.h"
#include "controller/text/nfc.h"

struct loader {
    struct gw_tokenizer *t;
    const cJSON *root, *model, *vocab, *merges, *added;
    const char **names; /* per id: the token as the file writes it; NULL = none so far */
    uint32_t size;
    struct gw_err_ctx *ctx;
};

const char *gw_tokenizer_type(const cJSON *obj)
{
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(obj, "type"));
    return type ? type : "";
}

static gw_err_t id_of(struct loader *l, const cJSON *item, const char *what, uint32_t *id)
{
    double v = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (v != floor(v) || v < 0 || v >= GW_VOCAB_MAX)
        return gw_fail(l->ctx, GW_ERR_INPUT, "the id of token '%.64s' must be an integer in [0, %u)", what,
                       GW_VOCAB_MAX);
    *id = (uint32_t)v;
    if (*id >= l->size) l->size = *id + 1;
    return GW_OK;
}

/* ---- model ---- */

/* A field that must be absent, null, or what would do nothing. */
static gw_err_t must_be_off(struct loader *l, const char *field)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(l->model, field);
    bool off = !v || cJSON_IsNull(v) || cJSON_IsFalse(v) || (cJSON_IsNumber(v) && v->valuedouble == 0) ||
               (cJSON_IsString(v) && v->valuestring[0] == '\0');
    return off ? GW_OK : gw_fail(l->ctx, GW_ERR_INPUT, "model.%s is not supported", field);
}

static gw_err_t check_model(struct loader *l)
{
    static const char *const off[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                      "byte_fallback"};
    l->model = cJSON_GetObjectItemCaseSensitive(l->root, "model");
    l->vocab = cJSON_GetObjectItemCaseSensitive(l->model, "vocab");
    l->merges = cJSON_GetObjectItemCaseSensitive(l->model, "merges");
    const char *type = gw_tokenizer_type(l->model);
    if (*type && strcmp(type, "BPE") != 0)
        return gw_fail(l->ctx, GW_ERR_INPUT, "model of type '%.64s', only BPE is supported", type);
    if (!cJSON_IsObject(l->vocab) || !cJSON_IsArray(l->merges))
        return gw_fail(l->ctx, GW_ERR_INPUT, "model.vocab (object) or model.merges (array) is missing");
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) TRY(must_be_off(l, off[i]));
    return GW_OK;
}

/* Finds the highest id; every id is checked here. */
static gw_err_t measure(struct loader *l)
{
    const cJSON *item;
    uint32_t id;
    cJSON_ArrayForEach(item, l->vocab) TRY(id_of(l, item, item->string, &id));
    l->added = cJSON_GetObjectItemCaseSensitive(l->root, "added_tokens");
    cJSON_ArrayForEach(item, l->added)
    {
        const cJSON *content = cJSON_GetObjectItemCaseSensitive(item, "content");
        if (!cJSON_IsString(content)) return gw_fail(l->ctx, GW_ERR_INPUT, "an added token has no content");
        TRY(id_of(l, cJSON_GetObjectItemCaseSensitive(item, "id"), content->valuestring, &id));
    }
    if (l->size == 0) return gw_fail(l->ctx, GW_ERR_INPUT, "the vocabulary is empty");
    return GW_OK;
}

/* Bytes of a token as the model sees it. Text that is not in the byte alphabet can never come out of merging:
 * it is kept as it is, for decoding. */
static gw_err_t put_token(struct loader *l, uint32_t id, const char *text)
{
    uint8_t bytes[GW_TOKENIZER_TOKEN_MAX];
    size_t len = strlen(text), bytes_len = 0;
    if (len > sizeof bytes)
        return gw_fail(l->ctx, GW_ERR_LIMIT, "token %u has %zu bytes, at most %zu are read", id, len,
                       sizeof bytes);
    if (l->names[id]) return gw_fail(l->ctx, GW_ERR_INPUT, "two tokens have the id %u", id);
    l->names[id] = text;
    bool word = gw_byte_alphabet_decode(text, len, bytes, &bytes_len) && bytes_len > 0;
    gw_err_t err =
        gw_vocab_put(&l->t->vocab, id, word ? (const void *)bytes : text, word ? bytes_len : len, word);
    if (err == GW_ERR_INPUT) return gw_fail(l->ctx, err, "token %u is in the vocabulary twice", id);
    return err == GW_OK ? GW_OK : gw_fail(l->ctx, err, "the vocabulary is too large");
}

static gw_err_t load_vocab(struct loader *l)
{
    const cJSON *item;
    l->names = calloc(l->size, sizeof *l->names);
    if (!l->names || gw_vocab_init(&l->t->vocab, l->size) != GW_OK)
        return gw_fail(l->ctx, GW_ERR_MEMORY, "out of memory");
    cJSON_ArrayForEach(item, l->vocab) TRY(put_token(l, (uint32_t)item->valuedouble, item->string));
    return GW_OK;
}

/* "a b" or ["a", "b"] → the two parts. */
static bool merge_parts(const cJSON *item, const char **a, size_t *a_len, const char **b)
{
    if (cJSON_IsString(item)) {
        const char *space = strchr(item->valuestring, ' ');
        if (!space || strchr(space + 1, ' ')) return false;
        *a = item->valuestring;
        *a_len = (size_t)(space - *a);
        *b = space + 1;
        return true;
    }
    const cJSON *first = cJSON_IsArray(item) ? item->child : NULL;
    if (!first || !first->next || first->next->next) return false;
    if (!cJSON_IsString(first) || !cJSON_IsString(first->next)) return false;
    *a = first->valuestring;
    *a_len = strlen(*a);
    *b = first->next->valuestring;
    return true;
}

/* All three tokens of a merge must be words of the vocabulary. */
static bool merge_ids(const struct gw_vocab *v, const char *a, size_t a_len, const char *b,
                      struct gw_merge *m)
{
    uint8_t bytes[2 * GW_TOKENIZER_TOKEN_MAX];
    size_t b_len = strlen(b), left_len, right_len;
    if (a_len > GW_TOKENIZER_TOKEN_MAX || b_len > GW_TOKENIZER_TOKEN_MAX) return false;
    if (!gw_byte_alphabet_decode(a, a_len, bytes, &left_len)) return false;
    if (!gw_byte_alphabet_decode(b, b_len, bytes + left_len, &right_len)) return false;
    m->left = gw_vocab_find(v, bytes, left_len);
    m->right = gw_vocab_find(v, bytes + left_len, right_len);
    m->id = gw_vocab_find(v, bytes, left_len + right_len);
    return m->left != GW_VOCAB_NONE && m->right != GW_VOCAB_NONE && m->id != GW_VOCAB_NONE;
}

static gw_err_t load_merges(struct loader *l)
{
    const cJSON *item;
    uint32_t count = 0, rank = 0;
    bool ignore = false;
    cJSON_ArrayForEach(item, l->merges) count++;
    if (count > GW_BPE_MERGES_MAX)
        return gw_fail(l->ctx, GW_ERR_LIMIT, "%u merges, at most %u are read", count, GW_BPE_MERGES_MAX);
    TRY(gw_json_bool(l->model, "ignore_merges", &ignore, l->ctx));
    if (gw_bpe_init(&l->t->bpe, &l->t->vocab, count, ignore) != GW_OK)
        return gw_fail(l->ctx, GW_ERR_MEMORY, "out of memory");
    cJSON_ArrayForEach(item, l->merges)
    {
        const char *a = NULL, *b = NULL;
        size_t a_len = 0;
        struct gw_merge m = {.rank = rank};
        if (!merge_parts(item, &a, &a_len, &b))
            return gw_fail(l->ctx, GW_ERR_INPUT, "merge %u is not a pair of tokens", rank);
        if (!merge_ids(&l->t->vocab, a, a_len, b, &m))
            return gw_fail(l->ctx, GW_ERR_INPUT, "merge %u: a token of it is not in the vocabulary", rank);
        gw_bpe_put(&l->t->bpe, m);
        rank++;
    }
    return GW_OK;
}

/* An unknown token would stand for bytes that have no token of their own. */
static gw_err_t check_unknown(struct loader *l)
{
    return l->t->bpe.all_bytes ? GW_OK : must_be_off(l, "unk_token");
}

/* ---- added tokens ---- */

static gw_err_t added_flags(struct loader *l, const cJSON *item, const char *content, bool *special,
                            bool *normalized)
{
    static const char *const off[] = {"lstrip", "rstrip", "single_word"};
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        bool on = false;
        TRY(gw_json_bool(item, off[i], &on, l->ctx));
        if (on)
            return gw_fail(l->ctx, GW_ERR_INPUT, "added token '%.64s': %s is not supported", content, off[i]);
    }
    TRY(gw_json_bool(item, "special", special, l->ctx));
    *normalized = !*special;
    return gw_json_bool(item, "normalized", normalized, l->ctx);
}

/* The vocabulary's side: the token's bytes, and no contradiction. */
static gw_err_t added_into_vocab(struct loader *l, uint32_t id, const char *content)
{
    if (l->names[id]) {
        if (strcmp(l->names[id], content) == 0) return GW_OK;
        return gw_fail(l->ctx, GW_ERR_INPUT, "added token '%.64s' has the id %u, which is another's", content,
                       id);
    }
    uint32_t other = gw_tokenizer_find(l->t, content);
    if (other != GW_VOCAB_NONE)
        return gw_fail(l->ctx, GW_ERR_INPUT, "added token '%.64s' has the ids %u and %u", content, id, other);
    l->names[id] = content;
    gw_err_t err = gw_vocab_put(&l->t->vocab, id, content, strlen(content), false);
    return err == GW_OK ? GW_OK : gw_fail(l->ctx, err, "added token '%.64s' does not fit", content);
}

static gw_err_t load_added_token(struct loader *l, const cJSON *item)
{
    const char *content = cJSON_GetObjectItemCaseSensitive(item, "content")->valuestring;
    uint32_t id = (uint32_t)cJSON_GetObjectItemCaseSensitive(item, "id")->valuedouble;
    bool special = false, normalized = false;
    size_t len = strlen(content);
    if (len == 0) return GW_OK; /* matches nothing, in the reference too */
    TRY(added_flags(l, item, content, &special, &normalized));
    if (normalized && l->t->nfc && !gw_nfc_trivial(content, len))
        return gw_fail(l->ctx, GW_ERR_INPUT, "added token '%.64s': to be normalized is not supported",
                       content);
    TRY(added_into_vocab(l, id, content));
    l->t->vocab.entries[id].special = special;
    gw_added_put(normalized ? &l->t->added_norm : &l->t->added_raw, content, len, id);
    return GW_OK;
}

static gw_err_t load_added(struct loader *l)
{
    const cJSON *item;
    size_t count = 0, total = 0;
    cJSON_ArrayForEach(item, l->added)
    {
        const cJSON *content = cJSON_GetObjectItemCaseSensitive(item, "content");
        size_t len = strlen(content->valuestring);
        if (len > GW_ADDED_BYTES_MAX)
            return gw_fail(l->ctx, GW_ERR_LIMIT, "an added token has %zu bytes, at most %u are read", len,
                           GW_ADDED_BYTES_MAX);
        total += len;
        count++;
    }
    if (count > GW_ADDED_MAX || total > GW_ADDED_ALL_MAX)
        return gw_fail(l->ctx, GW_ERR_LIMIT, "%zu added tokens of %zu bytes are too many", count, total);
    if (gw_added_init(&l->t->added_raw, total) != GW_OK || gw_added_init(&l->t->added_norm, total) != GW_OK)
        return gw_fail(l->ctx, GW_ERR_MEMORY, "out of memory");
    cJSON_ArrayForEach(item, l->added) TRY(load_added_token(l, item));
    return GW_OK;
}

uint32_t gw_tokenizer_find(const struct gw_tokenizer *t, const char *text)
{
    uint8_t bytes[GW_TOKENIZER_TOKEN_MAX];
    const struct gw_added *added[] = {&t->added_raw, &t->added_norm};
    size_t len = strlen(text), start, match_len;
    uint32_t id;
    for (int i = 0; i < 2; i++)
        if (gw_added_find(added[i], text, len, 0, &start, &match_len, &id) && start == 0 && match_len == len)
            return id;
    if (len > sizeof bytes || !gw_byte_alphabet_decode(text, len, bytes, &len)) return GW_VOCAB_NONE;
    return gw_vocab_find(&t->vocab, bytes, len);
}

/* ---- post-processor and decoder ---- */

/* One special token of a template → its ids. */
static gw_err_t put_affix(struct loader *l, const cJSON *template, const char *name, struct gw_affix *affix)
{
    const cJSON *known = cJSON_GetObjectItemCaseSensitive(template, "special_tokens");
    const cJSON *entry = cJSON_GetObjectItemCaseSensitive(known, name);
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(entry, "ids"), *id;
    if (!cJSON_IsArray(ids))
        return gw_fail(l->ctx, GW_ERR_INPUT, "post_processor: special token '%.64s' has no ids", name);
    cJSON_ArrayForEach(id, ids)
    {
        double v = cJSON_IsNumber(id) ? id->valuedouble : -1;
        if (v != floor(v) || v < 0 || v >= l->size)
            return gw_fail(l->ctx, GW_ERR_INPUT, "post_processor: '%.64s' has an id out of range", name);
        if (affix->len == GW_TOKENIZER_AFFIX_MAX)
            return gw_fail(l->ctx, GW_ERR_LIMIT, "post_processor: more than %d special tokens on one side",
                           GW_TOKENIZER_AFFIX_MAX);
        affix->ids[affix->len++] = (uint32_t)v;
    }
    return GW_OK;
}

static gw_err_t load_template(struct loader *l, const cJSON *template)
{
    const cJSON *item, *single = cJSON_GetObjectItemCaseSensitive(template, "single");
    int sequences = 0;
    if (l->t->prefix.len + l->t->suffix.len > 0)
        return gw_fail(l->ctx, GW_ERR_INPUT, "post_processor: more than one template is not supported");
    cJSON_ArrayForEach(item, single)
    {
        const cJSON *special = cJSON_GetObjectItemCaseSensitive(item, "SpecialToken");
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(special, "id");
        if (cJSON_GetObjectItemCaseSensitive(item, "Sequence"))
            sequences++;
        else if (cJSON_IsString(name))
            TRY(put_affix(l, template, name->valuestring, sequences ? &l->t->suffix : &l->t->prefix));
        else
            return gw_fail(l->ctx, GW_ERR_INPUT, "post_processor: a template item is not understood");
    }
    if (sequences != 1)
        return gw_fail(l->ctx, GW_ERR_INPUT, "post_processor: a template must hold the text exactly once");
    return GW_OK;
}

static gw_err_t load_processor(struct loader *l, const cJSON *p)
{
    const char *type = gw_tokenizer_type(p);
    if (strcmp(type, "ByteLevel") == 0) return GW_OK; /* moves offsets only */
    if (strcmp(type, "TemplateProcessing") == 0) return load_template(l, p);
    return gw_fail(l->ctx, GW_ERR_INPUT, "post_processor of type '%.64s' is not supported", type);
}

static gw_err_t load_post_processor(struct loader *l)
{
    const cJSON *p = cJSON_GetObjectItemCaseSensitive(l->root, "post_processor"), *item;
    if (!p || cJSON_IsNull(p)) return GW_OK;
    if (strcmp(gw_tokenizer_type(p), "Sequence") != 0) return load_processor(l, p);
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(p, "processors")) TRY(load_processor(l, item));
    return GW_OK;
}

static gw_err_t check_decoder(struct loader *l)
{
    const cJSON *d = cJSON_GetObjectItemCaseSensitive(l->root, "decoder");
    if (strcmp(gw_tokenizer_type(d), "Sequence") == 0) {
        const cJSON *list = cJSON_GetObjectItemCaseSensitive(d, "decoders");
        d = cJSON_GetArraySize(list) == 1 ? list->child : NULL;
    }
    if (strcmp(gw_tokenizer_type(d), "ByteLevel") == 0) return GW_OK;
    return gw_fail(l->ctx, GW_ERR_INPUT, "decoder of type '%.64s', only ByteLevel is supported",
                   gw_tokenizer_type(d));
}

gw_err_t gw_tokenizer_load(struct gw_tokenizer *t, const cJSON *root, struct gw_err_ctx *ctx)
{
    gw_err_t err = GW_OK;
    struct loader l = {.t = t, .root = root, .ctx = ctx};
    TRY_GOTO(check_model(&l), out);
    TRY_GOTO(measure(&l), out);
    TRY_GOTO(gw_tokenizer_load_stages(t, root, ctx), out);
    TRY_GOTO(load_vocab(&l), out);
    TRY_GOTO(load_merges(&l), out);
    TRY_GOTO(check_unknown(&l), out);
    TRY_GOTO(load_added(&l), out);
    TRY_GOTO(load_post_processor(&l), out);
    TRY_GOTO(check_decoder(&l), out);
out:
    free(l.names);
    return err;
}
