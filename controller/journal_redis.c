#include "controller/journal_redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/rng.h"
#include "migrate/redis_call.h"

#define PREFIX_FORM   "godwit:journal:1:%s:"
#define PREFIX_BYTES  64
#define KEY_BYTES     (PREFIX_BYTES + 32)
#define LEASE_BYTES   160
#define OWNER_BYTES   96
#define PART_BYTES    ((size_t)2 << 20)
#define SCRIPT_BYTES  ((size_t)8 << 20) /* of parts in one script call, about */
#define SCRIPT_PARTS  256
#define PER_PART      3 /* words of a script call: what, entry, bytes */
#define HEAD_WORDS    6 /* EVAL script 0 prefix lease lease_ms */
#define RANGE         8 /* parts, or entries, asked for at once */
#define ENTRIES_RANGE 64
#define FENCED        "FENCED"
#define KEEPS         3 /* renewals in the time of a lease: two may be lost */

_Static_assert(HEAD_WORDS + SCRIPT_PARTS * PER_PART <= GW_REDIS_ARGS_MAX, "a script call fits");

/* ARGV: prefix, owner, random, lease_ms, term_min. Returns {"1", lease, term} or {"0", holder, ms left}. */
static const char acquire_script[] = "local p = ARGV[1]\n"
                                     "local held = redis.call('GET', p..'lease')\n"
                                     "if held and string.sub(held, 1, #ARGV[2] + 1) ~= ARGV[2]..'/' then\n"
                                     "  return {'0', held, tostring(redis.call('PTTL', p..'lease'))}\n"
                                     "end\n"
                                     "local term = tonumber(redis.call('GET', p..'term') or '0') + 1\n"
                                     "if term < tonumber(ARGV[5]) then term = tonumber(ARGV[5]) end\n"
                                     "local mine = ARGV[2]..'/'..ARGV[3]..'/'..string.format('%.0f', term)\n"
                                     "redis.call('SET', p..'term', string.format('%.0f', term))\n"
                                     "redis.call('SET', p..'lease', mine, 'PX', ARGV[4])\n"
                                     "return {'1', mine, string.format('%.0f', term)}\n";

/* ARGV: prefix, lease, lease_ms, then (what, entry, bytes) each; what: a = append, e = end. A lease that has expired is
 * still ours if no higher term was given out. It is renewed last: a script that has written is not refused for want of
 * memory, and the pieces should be. */
static const char write_script[] =
    "local p = ARGV[1]\n"
    "local held = redis.call('GET', p..'lease')\n"
    "local free = not held and redis.call('GET', p..'term') == string.match(ARGV[2], '/(%d+)$')\n"
    "if held ~= ARGV[2] and not free then return redis.error_reply('" FENCED "') end\n"
    "for i = 4, #ARGV, 3 do\n"
    "  local e = ARGV[i + 1]\n"
    "  if ARGV[i] == 'e' then\n"
    "    redis.call('DEL', p..'e:'..e)\n"
    "    redis.call('ZREM', p..'entries', e)\n"
    "  else\n"
    "    if redis.call('RPUSH', p..'e:'..e, ARGV[i + 2]) == 1 then\n"
    "      redis.call('ZADD', p..'entries', redis.call('INCR', p..'order'), e)\n"
    "    end\n"
    "  end\n"
    "end\n"
    "redis.call('SET', p..'lease', ARGV[2], 'PX', ARGV[3])\n"
    "return redis.status_reply('OK')\n";

/* ARGV: prefix, lease. */
static const char release_script[] =
    "if redis.call('GET', ARGV[1]..'lease') == ARGV[2] then redis.call('DEL', ARGV[1]..'lease') end\n"
    "return redis.status_reply('OK')\n";

struct part {
    char what[2], entry[20];
    uint8_t *sealed; /* NULL with an end */
    size_t len;
};

struct redis {
    struct gw_redis *link;
    struct gw_record_sealer *sealer;
    struct gw_record_writer writer;
    uint64_t sequence;
    char prefix[PREFIX_BYTES], lease[LEASE_BYTES], lease_ms[24];
    int64_t lease_us;
    struct part parts[SCRIPT_PARTS]; /* of the script call being made */
    int parts_len;
    size_t parts_bytes;
};

/* ---- replies of a few strings ---- */

#define STRINGS_MAX  ENTRIES_RANGE
#define STRING_BYTES 256

struct strings {
    uint32_t len;
    char text[STRINGS_MAX][STRING_BYTES]; /* longer ones are cut */
};

static gw_err_t take_string(void *arg, uint32_t index, const char *bytes, size_t len)
{
    struct strings *s = arg;
    if (index >= STRINGS_MAX) return GW_ERR_PROTO;
    if (len >= STRING_BYTES) len = STRING_BYTES - 1;
    if (bytes) memcpy(s->text[index], bytes, len);
    s->text[index][bytes ? len : 0] = '\0';
    s->len = index + 1;
    return GW_OK;
}

static gw_err_t call_strings(struct redis *r, const struct gw_redis_arg *args, int len, struct strings *out,
                             struct gw_err_ctx *ctx)
{
    struct gw_redis_reply reply = {.element = take_string, .arg = out};
    out->len = 0;
    TRY(gw_redis_call(r->link, args, len, &reply, ctx));
    return reply.answer.type == REDIS_ANSWER_ARRAY
               ? GW_OK
               : gw_fail(ctx, GW_ERR_IO, "Redis: no list where one was asked for");
}

/* ---- writing ---- */

static void forget_parts(struct redis *r)
{
    for (int i = 0; i < r->parts_len; i++) free(r->parts[i].sealed);
    r->parts_len = 0;
    r->parts_bytes = 0;
}

/* Carries out what was collected; nothing: renews the lease. */
static gw_err_t run_script(struct redis *r, bool *fenced, struct gw_err_ctx *ctx)
{
    struct gw_redis_arg args[GW_REDIS_ARGS_MAX] = {gw_redis_word("EVAL"),   gw_redis_word(write_script),
                                                   gw_redis_word("0"),      gw_redis_word(r->prefix),
                                                   gw_redis_word(r->lease), gw_redis_word(r->lease_ms)};
    struct gw_redis_reply reply = {0};
    int len = HEAD_WORDS;
    for (int i = 0; i < r->parts_len; i++) {
        const struct part *p = &r->parts[i];
        args[len++] = gw_redis_word(p->what);
        args[len++] = gw_redis_word(p->entry);
        args[len++] = (struct gw_redis_arg){p->sealed ? (const void *)p->sealed : "", p->len};
    }
    gw_err_t err = gw_redis_call(r->link, args, len, &reply, ctx);
    if (err != GW_OK && strstr(reply.answer.error, FENCED)) {
        *fenced = true;
        gw_err_reset(ctx);
        err = gw_fail(ctx, GW_ERR_IO, "another controller has taken the lease");
    }
    forget_parts(r);
    return err;
}

static size_t make_place(const struct redis *r, uint64_t entry, char place[KEY_BYTES])
{
    return (size_t)snprintf(place, KEY_BYTES, "%s%016" PRIx64, r->prefix, entry);
}

static gw_err_t add_part(struct redis *r, char what, uint64_t entry, struct part **out, bool *fenced,
                         struct gw_err_ctx *ctx)
{
    if (r->parts_len == SCRIPT_PARTS || r->parts_bytes >= SCRIPT_BYTES) TRY(run_script(r, fenced, ctx));
    struct part *p = &r->parts[r->parts_len++];
    *p = (struct part){.what = {what}};
    snprintf(p->entry, sizeof p->entry, "%016" PRIx64, entry);
    *out = p;
    return GW_OK;
}

/* Seals bytes [0, len) of a piece as one part. */
static gw_err_t add_bytes(struct redis *r, uint64_t entry, const uint8_t *bytes, size_t len, bool more,
                          bool *fenced, struct gw_err_ctx *ctx)
{
    struct part *p;
    char place[KEY_BYTES];
    TRY(add_part(r, 'a', entry, &p, fenced, ctx));
    uint8_t *plain = malloc(len + 1);
    p->len = len + 1 + GW_RECORD_SEAL_BYTES;
    p->sealed = malloc(p->len);
    gw_err_t err = plain && p->sealed ? GW_OK : GW_ERR_MEMORY;
    if (err == GW_OK) {
        plain[0] = more;
        memcpy(plain + 1, bytes, len);
        err = gw_record_seal(r->sealer, &r->writer, r->sequence++, place, make_place(r, entry, place), plain,
                             len + 1, p->sealed);
    }
    free(plain);
    r->parts_bytes += p->len;
    return err == GW_OK ? GW_OK : gw_fail(ctx, err, "out of memory");
}

static gw_err_t add_change(struct redis *r, const struct gw_change *c, bool *fenced, struct gw_err_ctx *ctx)
{
    struct part *p;
    size_t at = 0;
    if (c->kind == GW_CHANGE_END) return add_part(r, 'e', c->entry, &p, fenced, ctx);
    do {
        size_t len = c->len - at < PART_BYTES ? c->len - at : PART_BYTES;
        TRY(add_bytes(r, c->entry, c->piece + at, len, at + len < c->len, fenced, ctx));
        at += len;
    } while (at < c->len);
    return GW_OK;
}

static gw_err_t redis_write(void *state, const void *batch, size_t len, bool *fenced, struct gw_err_ctx *ctx)
{
    struct redis *r = state;
    struct gw_reader reader;
    struct gw_change change;
    gw_err_t err = GW_OK;
    gw_reader_init(&reader, batch, len);
    while (err == GW_OK && reader.pos < reader.len) {
        err = gw_change_get(&reader, &change);
        if (err == GW_OK) err = add_change(r, &change, fenced, ctx);
    }
    if (err == GW_OK) err = run_script(r, fenced, ctx);
    forget_parts(r);
    return err;
}

static gw_err_t redis_keep(void *state, bool *fenced, struct gw_err_ctx *ctx)
{
    return run_script(state, fenced, ctx);
}

static int64_t redis_keep_us(const void *state)
{
    const struct redis *r = state;
    return r->lease_us / KEEPS;
}

/* ---- loading ---- */

struct loading {
    struct redis *r;
    struct gw_journal_table *table;
    uint64_t entry;
    uint32_t got;        /* parts in this range */
    struct gw_buf piece; /* parts of one that goes on */
};

static gw_err_t take_part(void *arg, uint32_t index, const char *bytes, size_t len)
{
    struct loading *l = arg;
    struct gw_record_writer writer;
    char place[KEY_BYTES];
    uint64_t sequence;
    if (!bytes || len < GW_RECORD_SEAL_BYTES + 1) return GW_ERR_PROTO;
    uint8_t *plain = malloc(len);
    if (!plain) return GW_ERR_MEMORY;
    gw_err_t err = gw_record_open(l->r->sealer, place, make_place(l->r, l->entry, place),
                                  (const uint8_t *)bytes, len, &writer, &sequence, plain);
    if (err == GW_OK) gw_buf_put(&l->piece, plain + 1, len - GW_RECORD_SEAL_BYTES - 1);
    if (err == GW_OK) err = l->piece.err;
    if (err == GW_OK && plain[0] == 0) {
        const struct gw_change change = {GW_CHANGE_APPEND, l->entry, l->piece.data, l->piece.len};
        err = gw_journal_table_change(l->table, &change);
        gw_buf_reset(&l->piece);
    }
    free(plain);
    l->got = index + 1;
    return err;
}

static gw_err_t load_entry(struct loading *l, const char *name, struct gw_err_ctx *ctx)
{
    char key[KEY_BYTES], first[16], last[16];
    struct gw_redis_reply reply = {.element = take_part, .arg = l};
    if (strlen(name) != 16 || sscanf(name, "%16" SCNx64, &l->entry) != 1 || l->entry == 0)
        return gw_fail(ctx, GW_ERR_INPUT, "Redis holds an entry of a name that no controller makes");
    snprintf(key, sizeof key, "%se:%s", l->r->prefix, name);
    gw_buf_reset(&l->piece);
    l->got = RANGE;
    for (uint32_t at = 0; l->got == RANGE; at += RANGE) {
        snprintf(first, sizeof first, "%u", at);
        snprintf(last, sizeof last, "%u", at + RANGE - 1);
        const struct gw_redis_arg args[] = {gw_redis_word("LRANGE"), gw_redis_word(key), gw_redis_word(first),
                                            gw_redis_word(last)};
        l->got = 0;
        TRY(gw_redis_call(l->r->link, args, 4, &reply, ctx));
    }
    return GW_OK;
}

static gw_err_t load_range(struct loading *l, struct strings *names, uint32_t at, struct gw_err_ctx *ctx)
{
    char key[KEY_BYTES], first[16], last[16];
    snprintf(key, sizeof key, "%sentries", l->r->prefix);
    snprintf(first, sizeof first, "%u", at);
    snprintf(last, sizeof last, "%u", at + ENTRIES_RANGE - 1);
    const struct gw_redis_arg args[] = {gw_redis_word("ZRANGE"), gw_redis_word(key), gw_redis_word(first),
                                        gw_redis_word(last)};
    bool fenced = false;
    TRY(run_script(l->r, &fenced, ctx)); /* a long reading must not cost the lease */
    TRY(call_strings(l->r, args, 4, names, ctx));
    for (uint32_t i = 0; i < names->len; i++) {
        gw_err_t err = load_entry(l, names->text[i], ctx);
        if (err != GW_OK)
            return gw_fail_prefix(ctx, err == GW_ERR_PROTO ? GW_ERR_INPUT : err,
                                  "entry %s cannot be read (DEL %se:%s to start without it)", names->text[i],
                                  l->r->prefix, names->text[i]);
    }
    return GW_OK;
}

static gw_err_t load_all(struct redis *r, struct gw_journal_table *table, struct gw_err_ctx *ctx)
{
    struct loading l = {.r = r, .table = table};
    struct strings *names = malloc(sizeof *names);
    gw_err_t err = names ? GW_OK : gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    gw_buf_init(&l.piece, GW_JOURNAL_PIECE_MAX);
    if (names) names->len = ENTRIES_RANGE;
    for (uint32_t at = 0; err == GW_OK && names->len == ENTRIES_RANGE; at += ENTRIES_RANGE)
        err = load_range(&l, names, at, ctx);
    gw_buf_fini(&l.piece);
    free(names);
    return err;
}

/* ---- opening ---- */

/* INFO is read inside a script, because its answer would else be one long string. */
static gw_err_t check_policy(struct redis *r, struct gw_err_ctx *ctx)
{
    static const char script[] =
        "return {string.match(redis.call('INFO', 'memory'), 'maxmemory_policy:([%w-]+)') or '?'}";
    struct strings *s = malloc(sizeof *s);
    const struct gw_redis_arg args[] = {gw_redis_word("EVAL"), gw_redis_word(script), gw_redis_word("0")};
    if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    gw_err_t err = call_strings(r, args, 3, s, ctx);
    if (err == GW_OK && (s->len != 1 || strcmp(s->text[0], "noeviction") != 0))
        err = gw_fail(
            ctx, GW_ERR_INPUT,
            "Redis may evict keys (maxmemory-policy %s): a journal needs a server with maxmemory-policy "
            "noeviction",
            s->len == 1 ? s->text[0] : "unknown");
    free(s);
    return err;
}

static gw_err_t acquire(struct redis *r, const struct gw_journal_config *config, uint64_t *term,
                        struct gw_err_ctx *ctx)
{
    char owner[OWNER_BYTES], mark[2 * GW_RECORD_WRITER_BYTES + 1], term_min[24];
    struct strings *s = malloc(sizeof *s);
    if (!s) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    snprintf(owner, sizeof owner, "%s", config->owner ? config->owner : "?");
    for (char *c = owner; *c; c++)
        if (*c == '/') *c = '_';
    gw_hex(r->writer.bytes, sizeof r->writer.bytes, mark);
    snprintf(term_min, sizeof term_min, "%" PRIu64, config->term_min);
    const struct gw_redis_arg args[] = {gw_redis_word("EVAL"),      gw_redis_word(acquire_script),
                                        gw_redis_word("0"),         gw_redis_word(r->prefix),
                                        gw_redis_word(owner),       gw_redis_word(mark),
                                        gw_redis_word(r->lease_ms), gw_redis_word(term_min)};
    gw_err_t err = call_strings(r, args, 8, s, ctx);
    if (err == GW_OK && s->len != 3) err = gw_fail(ctx, GW_ERR_IO, "Redis: a lease of %u words", s->len);
    if (err == GW_OK && strcmp(s->text[0], "1") != 0)
        err = gw_fail(ctx, GW_ERR_LIMIT, "controller %.*s holds it, for another %s ms at least",
                      (int)strcspn(s->text[1], "/"), s->text[1], s->text[2]);
    if (err == GW_OK && sscanf(s->text[2], "%" SCNu64, term) != 1)
        err = gw_fail(ctx, GW_ERR_IO, "Redis: '%s' is no term", s->text[2]);
    if (err == GW_OK) snprintf(r->lease, sizeof r->lease, "%s", s->text[1]);
    free(s);
    return err;
}

static void release(struct redis *r)
{
    struct gw_redis_reply reply = {0};
    struct gw_err_ctx ctx = {0};
    const struct gw_redis_arg args[] = {gw_redis_word("EVAL"), gw_redis_word(release_script),
                                        gw_redis_word("0"), gw_redis_word(r->prefix),
                                        gw_redis_word(r->lease)};
    if (r->lease[0]) (void)!gw_redis_call(r->link, args, 5, &reply, &ctx); /* else it expires */
}

static void redis_close(void *state)
{
    struct redis *r = state;
    if (r->link) release(r);
    forget_parts(r);
    gw_redis_close(r->link);
    gw_record_sealer_destroy(r->sealer);
    free(r);
}

static void make_names(struct redis *r, const struct gw_journal_config *config)
{
    static const char label[] = "godwit journal namespace";
    uint8_t digest[GW_SHA256_BYTES];
    char hex[17];
    gw_hmac_sha256(config->key, config->key_len, label, sizeof label - 1, digest);
    gw_hex(digest, 8, hex);
    snprintf(r->prefix, sizeof r->prefix, PREFIX_FORM, hex);
    gw_random_bytes(r->writer.bytes, sizeof r->writer.bytes);
    r->lease_us = config->lease_us ? config->lease_us : GW_JOURNAL_LEASE_US;
    snprintf(r->lease_ms, sizeof r->lease_ms, "%" PRId64, r->lease_us / GW_US_PER_MS);
}

static gw_err_t open_all(struct redis *r, const struct gw_journal_config *config,
                         struct gw_journal_table *loaded, uint64_t *term, struct gw_err_ctx *ctx)
{
    const struct gw_redis_config link = {.url = config->where,
                                         .password_file = config->password_file,
                                         .ca_file = config->redis_ca_file,
                                         .tls_name = config->redis_tls_name,
                                         .insecure_plaintext = config->insecure_plaintext};
    TRY(gw_record_sealer_create(config->key, config->key_len, &r->sealer, ctx));
    TRY(gw_redis_open(&link, &r->link, ctx));
    TRY(check_policy(r, ctx));
    TRY(acquire(r, config, term, ctx));
    return load_all(r, loaded, ctx);
}

static gw_err_t redis_open(const struct gw_journal_config *config, struct gw_journal_table *loaded,
                           uint64_t *term, void **state, struct gw_err_ctx *ctx)
{
    struct redis *r = calloc(1, sizeof *r);
    if (!r) return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    make_names(r, config);
    gw_err_t err = open_all(r, config, loaded, term, ctx);
    if (err == GW_OK)
        *state = r;
    else
        redis_close(r);
    return err;
}

const struct gw_journal_ops gw_journal_redis = {.name = "redis",
                                                .open = redis_open,
                                                .write = redis_write,
                                                .keep = redis_keep,
                                                .keep_us = redis_keep_us,
                                                .close = redis_close};
