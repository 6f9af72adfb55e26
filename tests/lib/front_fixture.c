#include "tests/lib/front_fixture.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"

#define MODEL_DIR "tests/models/tattler-3m"

static void need(gw_err_t err, const struct gw_err_ctx *ctx)
{
    if (err == GW_OK) return;
    fprintf(stderr, "fixture: %s\n", ctx->text);
    abort();
}

void fixture_prepare(struct front_fixture *f)
{
    struct gw_err_ctx ctx = {0};
    *f = (struct front_fixture){.loop = event_base_new()};
    assert(f->loop);
    need(gw_pool_create(f->loop, 2, 64, &f->pool, &ctx), &ctx);
    need(gw_tokenizer_open(MODEL_DIR, &f->tokenizer, &ctx), &ctx);
    need(gw_chat_template_open(MODEL_DIR, &f->chat, &ctx), &ctx);
    f->core = fake_core_create(f->loop);
    gw_front_config_default(&f->config);
    f->config.port = f->config.admin_port = 0;
    f->config.model_name = "tattler";
    f->config.version = "test";
    f->config.context = FIXTURE_CONTEXT;
}

void fixture_listen(struct front_fixture *f)
{
    struct gw_err_ctx ctx = {0};
    const struct gw_front_text text = {.tokenizer = f->tokenizer, .chat = f->chat};
    const struct gw_front_port port = fake_core_port(f->core);
    need(gw_front_create(f->loop, f->pool, &text, &f->config, &port, NULL, &f->front, &ctx), &ctx);
    fake_core_attach(f->core, f->front);
}

void fixture_start(struct front_fixture *f)
{
    fixture_prepare(f);
    fixture_listen(f);
}

void fixture_end(struct front_fixture *f)
{
    gw_pool_destroy(f->pool);
    gw_front_destroy(f->front);
    fake_core_destroy(f->core);
    gw_chat_template_destroy(f->chat);
    gw_tokenizer_close(f->tokenizer);
    event_base_free(f->loop);
    free(f->script);
}

struct http_client *fixture_client(struct front_fixture *f)
{
    return http_client_create(f->loop, gw_front_http_port(f->front));
}

struct http_client *fixture_admin(struct front_fixture *f)
{
    return http_client_create(f->loop, gw_front_admin_port(f->front));
}

static uint32_t scripted(void *arg, const struct gw_request *request, uint32_t branch, uint32_t position)
{
    const struct front_fixture *f = arg;
    size_t len;
    const uint32_t *eos = gw_tokenizer_eos_ids(f->tokenizer, &len);
    (void)request, (void)branch;
    return position < f->script_len ? f->script[position] : eos[0];
}

void fixture_say(struct front_fixture *f, const char *text)
{
    struct gw_err_ctx ctx = {0};
    free(f->script);
    f->script = NULL;
    need(gw_tokenizer_encode(f->tokenizer, text, strlen(text), 0, 100000, &f->script, &f->script_len, &ctx),
         &ctx);
    fake_core_plan(f->core)->token = scripted;
    fake_core_plan(f->core)->arg = f;
}

void fixture_write_file(char path[64], const char *text)
{
    snprintf(path, 64, "/tmp/godwit-front-XXXXXX");
    int fd = mkstemp(path);
    assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

char *fixture_join(const char *text, const char *field)
{
    char key[64], *out = calloc(1, strlen(text) + 1);
    size_t len = 0;
    assert(out);
    snprintf(key, sizeof key, "\"%s\":\"", field);
    for (const char *at = strstr(text, key); at; at = strstr(at, key)) {
        for (at += strlen(key); *at && *at != '"'; at++) {
            if (*at == '\\' && *++at == 'n')
                out[len++] = '\n';
            else
                out[len++] = *at;
        }
    }
    return out;
}

int fixture_count(const char *text, const char *needle)
{
    int n = 0;
    for (const char *at = strstr(text, needle); at; at = strstr(at + 1, needle)) n++;
    return n;
}

void fixture_has(const char *text, const char *needle)
{
    if (!strstr(text, needle)) fail_msg("no %s in: %s", needle, text);
}

void fixture_has_not(const char *text, const char *needle)
{
    if (strstr(text, needle)) fail_msg("%s in: %s", needle, text);
}

int fixture_ask(struct front_fixture *f, const char *path, const char *body, char **answer)
{
    struct http_client *c = fixture_client(f);
    http_client_post(c, path, "", body);
    struct http_response r = http_client_response(c);
    *answer = strdup(r.body);
    http_client_destroy(c);
    return r.status;
}

int fixture_set_up(void **state)
{
    struct front_fixture *f = malloc(sizeof *f);
    assert_non_null(f);
    fixture_prepare(f);
    *state = f;
    return 0;
}

int fixture_set_up_listening(void **state)
{
    struct front_fixture *f = malloc(sizeof *f);
    assert_non_null(f);
    fixture_start(f);
    *state = f;
    return 0;
}

int fixture_tear_down(void **state)
{
    fixture_end(*state);
    free(*state);
    return 0;
}
