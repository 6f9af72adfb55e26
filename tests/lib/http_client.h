/* An HTTP client for tests: it lives on the same event loop as the server it talks to, says exactly the bytes
 * that it is told to, and waits (running the loop) for what comes.
 *
 * Every wait has a deadline, after which it fails the test with what has arrived. Owner: create/destroy.
 * Thread: the loop's. */
#ifndef GW_TESTS_HTTP_CLIENT_H
#define GW_TESTS_HTTP_CLIENT_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_client;

struct http_client *http_client_create(struct event_base *loop, uint16_t port);
void http_client_destroy(struct http_client *c);

/* On its way when it returns, as far as the socket takes it. */
void http_client_send(struct http_client *c, const char *text);
void http_client_send_bytes(struct http_client *c, const void *bytes, size_t len);
/* POST with a Content-Length; headers: further lines, each with CR LF, or "". */
void http_client_post(struct http_client *c, const char *path, const char *headers, const char *body);
void http_client_get(struct http_client *c, const char *path);

/* Waits until text is in what has arrived and not been taken. */
void http_client_wait_for(struct http_client *c, const char *text);
/* Waits for the server to close; a reset counts too. */
void http_client_wait_closed(struct http_client *c);
/* Runs the loop until *value >= wanted. */
void http_client_wait_count(struct http_client *c, const int *value, int wanted);
/* Runs the loop for so long. */
void http_client_run(struct http_client *c, int ms);

/* Everything that has arrived so far, with a NUL behind it; valid until the next call. */
const char *http_client_text(struct http_client *c);
bool http_client_closed(const struct http_client *c);
/* Did the connection end by a reset? */
bool http_client_was_reset(const struct http_client *c);
/* Forgets what has arrived. */
void http_client_forget(struct http_client *c);

/* Waits for one whole response (by Content-Length, chunks or close) and takes it: body (chunks joined) with a
 * NUL; valid until the next call. */
struct http_response {
    int status;
    const char *head; /* the head's bytes, NUL behind */
    const char *body;
    size_t body_len;
};
struct http_response http_client_response(struct http_client *c);

void http_client_shut_write(struct http_client *c);
/* Stops, or goes on, reading what the server sends. */
void http_client_stop_reading(struct http_client *c);
/* Closes with a FIN, or with a reset; the client can only be destroyed after it. */
void http_client_close(struct http_client *c);
void http_client_reset(struct http_client *c);

#endif
