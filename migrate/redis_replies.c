#include "migrate/redis_replies.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/store.h"

/* What may wait in the reader: a value that is not whole yet, and what one read brought. */
#define READER_BYTES_MAX ((size_t)GW_PAGE_BYTES_MAX + GW_PAGE_SEAL_BYTES + (1u << 20))

struct redis_replies {
    struct redis_listener listener;
    redisReader *reader;
    struct redis_answer answer; /* the one being read */
    gw_err_t err;               /* why a value was refused */
};

static struct redis_replies *of(const redisReadTask *task)
{
    return task->privdata;
}

/* hiredis takes NULL for "out of memory" and anything else for the value, which is no use to us. */
static void *refuse(struct redis_replies *r, gw_err_t err)
{
    r->err = err;
    return NULL;
}

static void keep_error(struct redis_answer *a, const char *text, size_t len)
{
    if (a->error[0]) return;
    if (len > REDIS_ERROR_TEXT_MAX) len = REDIS_ERROR_TEXT_MAX;
    memcpy(a->error, text, len);
    a->error[len] = '\0';
}

static void set_type(struct redis_replies *r, const redisReadTask *task, enum redis_answer_type type)
{
    if (!task->parent) r->answer.type = type;
}

static void *on_string(const redisReadTask *task, char *text, size_t len)
{
    struct redis_replies *r = of(task);
    if (task->type == REDIS_REPLY_ERROR) {
        set_type(r, task, REDIS_ANSWER_ERROR);
        keep_error(&r->answer, text, len);
        return r;
    }
    set_type(r, task, task->type == REDIS_REPLY_STATUS ? REDIS_ANSWER_STATUS : REDIS_ANSWER_STRING);
    if (!task->parent) return r;
    gw_err_t err = r->listener.element(r->listener.arg, (uint32_t)task->idx, text, len);
    return err == GW_OK ? r : refuse(r, err);
}

static void *on_array(const redisReadTask *task, int elements)
{
    struct redis_replies *r = of(task);
    if (task->parent || elements < 0 || elements > GW_STORE_PAGES_MAX) return refuse(r, GW_ERR_PROTO);
    r->answer.type = REDIS_ANSWER_ARRAY;
    r->answer.elements = (uint32_t)elements;
    return r;
}

static void *on_integer(const redisReadTask *task, long long value)
{
    struct redis_replies *r = of(task);
    set_type(r, task, REDIS_ANSWER_INTEGER);
    if (!task->parent) r->answer.integer = value;
    return r;
}

static void *on_nil(const redisReadTask *task)
{
    struct redis_replies *r = of(task);
    set_type(r, task, REDIS_ANSWER_NIL);
    if (!task->parent) return r;
    gw_err_t err = r->listener.element(r->listener.arg, (uint32_t)task->idx, NULL, 0);
    return err == GW_OK ? r : refuse(r, err);
}

static void free_nothing(void *value)
{
    (void)value;
}

/* hiredis' type asks for a table that could be written to; nothing writes to it. */
static const redisReplyObjectFunctions functions = {on_string, on_array, on_integer, on_nil, free_nothing};

gw_err_t redis_replies_reset(struct redis_replies *r)
{
    if (r->reader) redisReaderFree(r->reader);
    r->reader = redisReaderCreateWithFunctions((redisReplyObjectFunctions *)&functions);
    if (!r->reader) return GW_ERR_MEMORY;
    r->reader->privdata = r;
    r->reader->maxbuf = 0; /* keep the buffer: the next value is as long */
    r->answer = (struct redis_answer){0};
    r->err = GW_OK;
    return GW_OK;
}

struct redis_replies *redis_replies_create(const struct redis_listener *listener)
{
    struct redis_replies *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->listener = *listener;
    if (redis_replies_reset(r) == GW_OK) return r;
    free(r);
    return NULL;
}

void redis_replies_destroy(struct redis_replies *r)
{
    if (!r) return;
    if (r->reader) redisReaderFree(r->reader);
    free(r);
}

static gw_err_t next_answer(struct redis_replies *r, bool *more, struct gw_err_ctx *ctx)
{
    void *whole = NULL;
    if (redisReaderGetReply(r->reader, &whole) != REDIS_OK)
        return gw_fail(ctx, r->err != GW_OK ? r->err : GW_ERR_PROTO, "%s",
                       r->err != GW_OK ? "it answers what was not asked" : r->reader->errstr);
    *more = whole != NULL;
    if (!whole) return GW_OK;
    struct redis_answer answer = r->answer;
    r->answer = (struct redis_answer){0};
    return r->listener.answer(r->listener.arg, &answer, ctx);
}

gw_err_t redis_replies_feed(struct redis_replies *r, const void *bytes, size_t len, struct gw_err_ctx *ctx)
{
    bool more = true;
    if (!r->reader || redisReaderFeed(r->reader, bytes, len) != REDIS_OK)
        return gw_fail(ctx, GW_ERR_MEMORY, "out of memory");
    while (more) TRY(next_answer(r, &more, ctx));
    if (r->reader->len > READER_BYTES_MAX) return gw_fail(ctx, GW_ERR_PROTO, "a value longer than any page");
    return GW_OK;
}
