/* A pipeline of several ranks (tests/lib/rank_threads.h) whose engine is recorded as tests/lib/engine_fixture.h does. */
#ifndef GW_TESTS_PIPELINE_FIXTURE_H
#define GW_TESTS_PIPELINE_FIXTURE_H

#include "tests/lib/engine_fixture.h"
#include "tests/lib/rank_threads.h"

/* A pipeline of that layout that records what it does, as config.sink.logits says of rows; what else *a has is the caller's. */
static inline void pipeline_start(struct rank_threads *a, struct fixture *f, const struct gw_model *model,
                                  const char *layout, struct solo_config config, bool try_shm)
{
    struct gw_err_ctx ctx = {0};
    *f = (struct fixture){.model = (struct gw_model *)model,
                          .runs = calloc(FIXTURE_RUNS_MAX, sizeof *f->runs),
                          .last_row = calloc(model->config.vocab, sizeof *f->last_row)};
    config.sink.arg = f;
    config.sink.started = fixture_started;
    config.sink.tokens = fixture_tokens;
    config.threads = 1;
    a->model = model;
    a->config = config;
    a->try_shm = try_shm;
    if (rank_threads_open(a, layout, &ctx) != GW_OK) fail_msg("%s: %s", layout, ctx.text);
    f->engine = a->engine;
}

/* A pipeline of this machine's processors that records what it does, but for logit rows. */
static inline void pipeline_open_blind(struct rank_threads *a, struct fixture *f,
                                       const struct gw_model *model, const char *layout,
                                       struct solo_config config, bool try_shm)
{
    memset(a, 0, sizeof *a);
    pipeline_start(a, f, model, layout, config, try_shm);
}

/* The same with logit rows. */
static inline void pipeline_open(struct rank_threads *a, struct fixture *f, const struct gw_model *model,
                                 const char *layout, struct solo_config config, bool try_shm)
{
    config.sink.logits = fixture_logits;
    pipeline_open_blind(a, f, model, layout, config, try_shm);
}

static inline void pipeline_close(struct rank_threads *a, struct fixture *f)
{
    struct gw_err_ctx ctx = {0};
    if (rank_threads_close(a, &ctx) != GW_OK) fail_msg("%s", ctx.text);
    for (uint32_t i = 1; i < a->assign.ranks_len; i++) assert_true(a->ranks[i].followed > 0);
    free(f->runs);
    free(f->last_row);
}

#endif
