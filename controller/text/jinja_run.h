/* Jinja, run: the state of one rendering, and its bounds.
 *
 * Steps are counted for every node that is evaluated and for bulk work in proportion, so that a template ends
 * in bounded time whatever it says and whatever the messages are; memory, output and recursion are bounded
 * too.
 *
 * Owner: init/fini, caller memory. Thread: one. Units: bytes, steps.
 * Errors: GW_ERR_LIMIT when a bound is hit; all texts begin with "line N: ". Source: own design. */
#ifndef GW_CONTROLLER_JINJA_RUN_H
#define GW_CONTROLLER_JINJA_RUN_H

#include "controller/text/arena.h"
#include "controller/text/jinja_ast.h"

#define GW_JINJA_STEPS_MAX  ((size_t)10 << 20)  /* 10,000 messages at 1,000 nodes each; under 2 s */
#define GW_JINJA_MEMORY_MAX ((size_t)256 << 20) /* bytes of all values made in a run */
#define GW_JINJA_OUTPUT_MAX ((size_t)16 << 20)  /* bytes: what the tokenizer would take */
#define GW_JINJA_DEPTH_MAX  700    /* of evaluation; at most 2 KB of stack each, in ASan builds too */
#define GW_JINJA_RANGE_MAX  100000 /* items of range(); Jinja's sandbox has the same */
#define GW_JINJA_ARGS_MAX   16     /* of one call, by position, and as many by name */
#define GW_JINJA_BYTES_STEP 32     /* so many bytes copied or compared count as a step */
#define GW_JINJA_CHARS_STEP 8      /* so many bytes looked at one character at a time do */

struct gw_jinja_var {
    struct gw_jinja_string name;
    struct gw_jinja_value value;
    bool set; /* false: its round of the loop is over */
    struct gw_jinja_var *next;
};

struct gw_jinja_scope {
    struct gw_jinja_var *vars;
    struct gw_jinja_scope *parent;
};

enum gw_jinja_signal { GW_JINJA_GO_ON, GW_JINJA_DO_BREAK, GW_JINJA_DO_CONTINUE };

struct gw_jinja_run {
    struct gw_arena arena;
    struct gw_buf *out; /* where text goes now: the output, or what a macro collects */
    struct gw_jinja_scope *scope;
    enum gw_jinja_signal signal; /* a break or continue on its way to its loop */
    size_t steps;
    int depth;         /* of evaluation and of values being walked */
    uint32_t line;     /* of what is being evaluated */
    const char *today; /* for strftime_now; NULL = it is not defined */
    struct gw_err_ctx *ctx;
};

struct gw_jinja_named_arg {
    struct gw_jinja_string name;
    struct gw_jinja_value value;
};

struct gw_jinja_args {
    struct gw_jinja_value by_pos[GW_JINJA_ARGS_MAX];
    struct gw_jinja_named_arg by_name[GW_JINJA_ARGS_MAX];
    size_t by_pos_len, by_name_len;
};

/* Records "line N: ..." and returns code. */
gw_err_t gw_jinja_fail(struct gw_jinja_run *run, gw_err_t code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Counts steps; GW_ERR_LIMIT when there were too many. */
gw_err_t gw_jinja_step(struct gw_jinja_run *run, size_t steps) GW_MUST_USE;
/* Counts work that is linear in bytes: copying and comparing, and what looks at each character. */
gw_err_t gw_jinja_step_bytes(struct gw_jinja_run *run, size_t bytes) GW_MUST_USE;
gw_err_t gw_jinja_step_chars(struct gw_jinja_run *run, size_t bytes) GW_MUST_USE;

/* Goes one level deeper; pair with gw_jinja_leave if OK. */
gw_err_t gw_jinja_enter(struct gw_jinja_run *run) GW_MUST_USE;
void gw_jinja_leave(struct gw_jinja_run *run);

/* Memory of the run. */
gw_err_t gw_jinja_alloc(struct gw_jinja_run *run, size_t size, void **out) GW_MUST_USE;
/* Copies a buffer's text into the run's memory; fails if the buffer did. */
gw_err_t gw_jinja_from_buf(struct gw_jinja_run *run, const struct gw_buf *b,
                           struct gw_jinja_value *out) GW_MUST_USE;
/* left + right as text; left is extended in place where it can be. */
gw_err_t gw_jinja_append(struct gw_jinja_run *run, struct gw_jinja_string left, struct gw_jinja_string right,
                         struct gw_jinja_value *out) GW_MUST_USE;

/* Variables: the innermost scope that has the name; *out = NULL if none. set writes the current scope. */
gw_err_t gw_jinja_lookup(struct gw_jinja_run *run, struct gw_jinja_string name,
                         const struct gw_jinja_value **out) GW_MUST_USE;
gw_err_t gw_jinja_assign(struct gw_jinja_run *run, struct gw_jinja_string name,
                         struct gw_jinja_value value) GW_MUST_USE;
/* Enters a new scope inside parent; *old gets the current one, to be put back into run->scope. */
gw_err_t gw_jinja_push_scope(struct gw_jinja_run *run, struct gw_jinja_scope *parent,
                             struct gw_jinja_scope **old) GW_MUST_USE;

/* Forgets all variables but keeps their memory: the next round of a loop. */
void gw_jinja_clear_scope(struct gw_jinja_scope *scope);

/* Arguments: the one at that position or of that name; NULL if it was not given. */
const struct gw_jinja_value *gw_jinja_arg(const struct gw_jinja_args *args, size_t pos, const char *name);
/* The same as an integer or text of a known kind; absent (and none, for texts) leaves *out as it is. */
gw_err_t gw_jinja_arg_int(struct gw_jinja_run *run, const struct gw_jinja_args *args, size_t pos,
                          const char *name, int64_t *out) GW_MUST_USE;
gw_err_t gw_jinja_arg_text(struct gw_jinja_run *run, const struct gw_jinja_args *args, size_t pos,
                           const char *name, struct gw_jinja_string *out) GW_MUST_USE;

#endif
