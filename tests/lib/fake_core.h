/* A core of a few lines for tests of the front: it accepts requests and emits tokens of a pure function.
 *
 * Tokens come `batch` at a time for each branch, from the loop, so that everything else gets its turn
 * between. What the front posts is counted and kept. Owner: create/destroy. Thread: the loop's. */
#ifndef GW_TESTS_FAKE_CORE_H
#define GW_TESTS_FAKE_CORE_H

#include "controller/front/front.h"

struct fake_core;

/* The function: the token at that position of that branch. */
typedef uint32_t (*fake_token_fn)(void *arg, const struct gw_request *request, uint32_t branch,
                                  uint32_t position);

struct fake_core_plan {
    fake_token_fn token; /* NULL: ids 0, 1, 2 … of (seed, branch, position) below 200 */
    void *arg;
    uint32_t batch;   /* records per action; 0 = 1 */
    bool held;        /* no tokens until fake_core_release */
    bool full;        /* refuse: the queue is full */
    uint32_t fail_at; /* fail the request when a branch has so many records; UINT32_MAX = never */
    gw_err_t fail_code;
    uint32_t workers_up;       /* each is a serving pipeline of its own … */
    bool one_pipeline;         /* … or all of them are one, a share each */
    const char *layout_reason; /* of the last plan; set: it has no pipeline */
    const char *profile;       /* of the records; NULL: an exact one */
};

struct fake_core_seen {
    int submits, restores, cancels, stops, notices;
    uint32_t stop_branch, stop_keep; /* of the last STOP */
    uint64_t last_id;
    uint32_t last_n, last_prompt_len, last_max_tokens;
    uint64_t last_seed;
    uint8_t last_tenant[GW_REQUEST_TENANT_BYTES];
    char notice_name[GW_WIRE_NAME_MAX + 1];
    uint8_t notice_kind;
    int64_t notice_deadline_us;
    char layout[GW_LAYOUT_TEXT_MAX + 1]; /* the last one that was forced */
    uint64_t ticket;
};

struct fake_core *fake_core_create(struct event_base *loop);
void fake_core_destroy(struct fake_core *core);
void fake_core_attach(struct fake_core *core, struct gw_front *front);
struct gw_front_port fake_core_port(struct fake_core *core);

/* Both may be changed at any time. */
struct fake_core_plan *fake_core_plan(struct fake_core *core);
struct fake_core_seen *fake_core_seen(struct fake_core *core);
int fake_core_live(const struct fake_core *core);
void fake_core_release(struct fake_core *core);

#endif
