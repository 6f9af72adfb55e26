/* A front on free ports with a fake core behind it, the shipped model's tokenizer and template, and what tests of it
 * need at every step. Owner: start/end. Thread: the test's. */
#ifndef GW_TESTS_FRONT_FIXTURE_H
#define GW_TESTS_FRONT_FIXTURE_H

#include "tests/lib/fake_core.h"
#include "tests/lib/http_client.h"

#define FIXTURE_CONTEXT 512

struct front_fixture {
    struct event_base *loop;
    struct gw_pool *pool;
    struct gw_tokenizer *tokenizer;
    struct gw_chat_template *chat;
    struct fake_core *core;
    struct gw_front *front;
    struct gw_front_config config;
    /* fixture_say's script: the tokens of every branch, then eos */
    uint32_t *script;
    size_t script_len;
};

/* Opens all but the front, whose config may still be changed. */
void fixture_prepare(struct front_fixture *f);
void fixture_listen(struct front_fixture *f);
/* Both. */
void fixture_start(struct front_fixture *f);
void fixture_end(struct front_fixture *f);

/* For cmocka: *state is a fixture that is prepared, or that listens. */
int fixture_set_up(void **state);
int fixture_set_up_listening(void **state);
int fixture_tear_down(void **state);

/* A client of the API, or of the admin listener. */
struct http_client *fixture_client(struct front_fixture *f);
struct http_client *fixture_admin(struct front_fixture *f);

/* From now on every branch says this text, then ends by eos. */
void fixture_say(struct front_fixture *f, const char *text);

/* Writes a file of mode 0600 with that text under a fresh name into path[64]. */
void fixture_write_file(char path[64], const char *text);

/* The values of a JSON string field in the events (or the body) of text, joined: fixture_join(text, "content"). Caller
 * frees. Unescapes nothing but \n, \" and \\. */
char *fixture_join(const char *text, const char *field);
/* Fails the test unless needle is in text (or is not). */
void fixture_has(const char *text, const char *needle);
void fixture_has_not(const char *text, const char *needle);

/* One POST to the API on a connection of its own; the status, and the body, which is the caller's. */
int fixture_ask(struct front_fixture *f, const char *path, const char *body, char **answer);

/* How often needle is in text. */
int fixture_count(const char *text, const char *needle);

#endif
