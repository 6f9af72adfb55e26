#!/usr/bin/env python3
"""Plants bugs in the core, one at a time, and checks that the tests find each.

A mutant is one small change of the sources: (what is broken, file, old text, new text, who must find it). "sim": 200
seeds of the simulator; "unit": the unit tests of the core, for what the simulator does not see because the result stays
right (only later, or elsewhere) or the case is too rare. The sources are copied to build/mutants and built there. Speaks TAP; a mutant whose
old text is not there any more fails, so that this list follows the code.

usage: tests/sim/mutants.py [WORD...]   only mutants whose description holds one of the words
"""
import os, re, shutil, subprocess, sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TREE = os.path.join(ROOT, "build", "mutants")
SIM = "build/asan/tests/sim/godwit-sim"
UNIT = [f"build/asan/tests/unit/test_core_{m}" for m in ("requests", "workers", "moves", "route")]
SEEDS = "200"

TOKENS, REQUESTS, WORKERS = "core_tokens.c", "core_requests.c", "core_workers.c"
ROUTE, MOVES, LOG, CORE, NOTICES = "core_route.c", "core_moves.c", "core_log.c", "core.c", "core_notices.c"

MUTANTS = [
    # who may speak for a request
    ("attempt is not checked", REQUESTS, "r && r->worker == w && r->attempt == attempt", "r && r->worker == w", "sim"),
    ("worker is not checked", REQUESTS, "r && r->worker == w && r->attempt == attempt",
     "r && r->worker && r->attempt == attempt", "sim"),
    ("term, pipeline and generation are not checked", WORKERS,
     "if (!w || msg->term != core->config.term || msg->pipeline != w->pipeline || msg->generation != w->generation) {",
     "if (!w) {", "sim"),
    ("generation is not checked", WORKERS, "msg->generation != w->generation", "false", "sim"),
    ("attempt does not grow", REQUESTS, "r->attempt++;", "if (r->attempt == 0) r->attempt = 1;", "sim"),
    ("generation does not grow", WORKERS, "w->generation = ++core->last_generation;",
     "w->generation = core->last_generation = 1;", "sim"),
    # what a resubmitted request carries
    ("log is sent one record short", ROUTE, "{r->logs[i].len, r->logs[i].done",
     "{r->logs[i].len > 0 ? r->logs[i].len - 1 : 0, r->logs[i].done", "sim"),
    ("log is not sent", ROUTE, "{r->logs[i].len, r->logs[i].done", "{0, r->logs[i].done", "sim"),
    ("ended branches are not marked", ROUTE, "r->logs[i].len, r->logs[i].done,", "r->logs[i].len, false,", "sim"),
    # the token path
    ("overlap is appended again", TOKENS, "commit(core, r, m->branch, t, overlap)", "commit(core, r, m->branch, t, 0)",
     "sim"),
    ("a gap of one is accepted", TOKENS, "if (t->first > log->len) {", "if (t->first > log->len + 1) {", "sim"),
    ("frames behind a gap are dropped, not resubmitted", TOKENS, "resubmit_gap(core, r, now_us);",
     "(void)resubmit_gap; (void)now_us;", "sim"),
    ("overshoot is committed", TOKENS, "while (i < t->count && finish == GW_FINISH_NONE)", "while (i < t->count)", "sim"),
    ("the end is found one record late", TOKENS, "gw_request_finish_at(s, log->len,",
     "gw_request_finish_at(s, log->len > 0 ? log->len - 1 : 0,", "sim"),
    ("the end is found one record early", TOKENS, "gw_request_finish_at(s, log->len,",
     "gw_request_finish_at(s, log->len + 1,", "sim"),
    ("records for ended branches are taken", TOKENS, "if (log->done) {", "if (false) {", "sim"),
    ("an overlap that differs is not seen", TOKENS, "if (!core_log_equals(log, t, overlap)) {", "if (false) {", "sim"),
    ("impossible records are taken", TOKENS, "if (!plausible(w, r, m)) {", "if (false && !plausible(w, r, m)) {", "unit"),
    ("stop does not cut the log", REQUESTS, "if (keep < r->logs[branch].len) r->logs[branch].len = keep;", "(void)keep;",
     "sim"),
    ("a request is done one branch early", REQUESTS, "if (r->open > 0) return;", "if (r->open > 1) return;", "sim"),
    ("logprobs of the wrong records", LOG, "log->logprobs + first", "log->logprobs", "sim"),
    ("top pairs of the wrong records", LOG, "log->top + (size_t)first * top_n", "log->top", "sim"),
    ("top pairs stored with the wrong stride", LOG, "&t->top[(size_t)i * t->top_n]", "&t->top[i]", "sim"),
    ("what actions point to is freed too early", REQUESTS, "r->next = core->dead_requests; core->dead_requests = r;",
     "core_request_free(r);", "sim"),
    # loss
    ("a lost request is forgotten", REQUESTS, "core_request_requeue(core, r, now_us); }",
     "if (r->attempt != 2) core_request_requeue(core, r, now_us); }", "sim"),
    ("a link that goes down is ignored", WORKERS,
     'if (w) core_worker_lost(core, w, now_us, "its link went down", false);', "(void)w; (void)now_us;", "unit"),
    ("silence is declared twice too fast", WORKERS, "w->silent_at_us = now_us + core->config.heartbeat_timeout_us;",
     "w->silent_at_us = now_us + core->config.heartbeat_timeout_us / 2;", "sim"),
    ("silence is never declared", WORKERS, "if (now_us < core->silence_due_us) return; bool mass",
     "if (now_us > 0) return; bool mass", "sim"),
    ("silence is judged on every event", CORE, "on_event(core, now_us, event);",
     "on_event(core, now_us, event); core_silence_tick(core, now_us);", "unit"),
    ("nobody looks twice when most are silent", WORKERS, "return core->workers_len >= 2 && quiet * 2 > core->workers_len;",
     "return core->workers_len >= 2 && quiet * 2 > 2 * core->workers_len;", "sim"),
    ("a loop that did not run blames the workers", CORE, "if (core->workers_len > 0 && gap_us >", "if (false && gap_us >",
     "sim"),
    ("a silent worker's link stays open", WORKERS, 'core_worker_lost(core, w, now_us, "no frame in time", true);',
     'core_worker_lost(core, w, now_us, "no frame in time", false);', "unit"),
    ("the old incarnation stays", WORKERS,
     'if (same) core_worker_lost(core, same, now_us, "it came back on a new link", true);', "(void)same;", "unit"),
    ("no pings", WORKERS, "if (now_us < core->ping_due_us) return; core->ping_due_us",
     "if (now_us > 0) return; core->ping_due_us", "sim"),
    # poison
    ("losses are never counted", REQUESTS, "bool counts = r->started && !r->progressed;", "bool counts = false;", "sim"),
    ("losses before the first step count", REQUESTS, "bool counts = r->started && !r->progressed;",
     "bool counts = !r->progressed;", "sim"),
    ("announced losses count", REQUESTS, "if (!announced) { if (is_fatal_loss", "if (true) { if (is_fatal_loss", "sim"),
    ("losses after progress count", TOKENS, "r->progressed = true;", "r->progressed = false;", "sim"),
    ("a commit does not take the count back", TOKENS, "r->idle_losses = 0;", "", "sim"),
    ("a request that kills alone goes on for ever", REQUESTS, "if (is_fatal_loss(r)) {",
     "if (false) {", "sim"),
    ("a suspect does not wait until it is alone", ROUTE, "w->alone->state == CORE_QUEUED && w->requests.len == 0",
     "w->alone->state == CORE_QUEUED", "sim"),
    ("others join a suspect", ROUTE, "if (w->state != CORE_UP || w->alone) return false;",
     "if (w->state != CORE_UP) return false;", "sim"),
    ("a lost worker stays reserved", WORKERS, "if (w->alone) core_release(core, w->alone);", "", "sim"),
    ("a worker stays reserved after its suspect", REQUESTS,
     "core_list_remove(r); core_release(core, r); core->dispatch_due = true;",
     "core_list_remove(r); core->dispatch_due = true;", "sim"),
    ("a doomed worker stays reserved", MOVES,
     "if (w->alone && w->alone->state == CORE_QUEUED) core_release(core, w->alone);", "", "sim"),
    # queue and routing
    ("doomed workers get requests", ROUTE, "if (w->state != CORE_UP || w->alone) return false;",
     "if (w->alone) return false;", "sim"),
    ("ended branches count as load", REQUESTS, "if (r->worker) r->worker->branches--;", "", "sim"),
    ("requests that left count as load", REQUESTS, "w->branches -= r->open;", "", "unit"),
    ("prompts that left count as load", REQUESTS, "w->prefill_tokens -= r->prefill_tokens; r->prefill_tokens = 0; r->worker",
     "r->prefill_tokens = 0; r->worker", "unit"),
    ("a worker that comes is not used", WORKERS, "core->fleet_changed = true; core->dispatch_due = true; }",
     "core->fleet_changed = true; }", "sim"),
    ("streams change their numerics profile", ROUTE, "return r->profile == CORE_PROFILE_NONE ||", "return true ||", "sim"),
    ("waiting has no end", REQUESTS, "while (list->first && list->first->wait_until_us <= now_us)",
     "while (false && list->first && now_us > 0)", "unit"),
    ("the queue has no limit", REQUESTS, "core->fresh.len >= core->config.max_queued ?", "false ?", "unit"),
    ("affinity overloads one worker", ROUTE, "return load_of(affine) <= AFFINITY_FACTOR * load_of(least) + AFFINITY_SLACK",
     "return load_of(affine) + 1 > 0", "unit"),
    ("no affinity", ROUTE, "while (count > 0) {", "while (false) {", "unit"),
    ("tenants share prefixes", ROUTE, "gw_hash64(q->tenant, sizeof q->tenant, 0)", "gw_hash64(q->tenant, 0, 0)", "unit"),
    # cancels
    ("the worker is not told of a stop", REQUESTS,
     "if (r->worker) core_send_cancel(core, r, r->open == 1 ? GW_BRANCH_ALL : branch);", "", "sim"),
    ("the worker is not told of a cancel", REQUESTS,
     "if (r->worker) core_send_cancel(core, r, GW_BRANCH_ALL); core->stats.cancelled++;", "core->stats.cancelled++;",
     "sim"),
    ("the worker is not told of a gap", TOKENS, "core_send_cancel(core, r, GW_BRANCH_ALL); core_request_lost",
     "core_request_lost", "sim"),
    ("the worker is not told that its time is over", MOVES, "core_send_cancel(core, r, GW_BRANCH_ALL); core_request_lost",
     "core_request_lost", "sim"),
    ("a cancelled request lives on", REQUESTS, "core->stats.cancelled++; forget(core, r);", "core->stats.cancelled++;",
     "sim"),
    ("a rejected request hangs", REQUESTS, "core_request_fail(core, r, (gw_err_t)m->code,",
     "if (!m) core_request_fail(core, r, (gw_err_t)m->code,", "sim"),
    # announced moves
    ("a missing HANDOFF is waited for", MOVES, "give_up(core, w, now_us, true);", "w->handoff_deadline_us = 0;", "unit"),
    ("HANDOFF is ignored", MOVES, "core_request_lost(core, r, now_us, r->state == CORE_MOVING);", "(void)now_us;", "unit"),
    ("CUTOVER names the wrong attempt", MOVES, "{r->request->id, r->attempt};", "{r->request->id, r->attempt - 1};", "sim"),
    ("CUTOVER names requests that move already", MOVES, "if (r->state == CORE_MOVING) continue; r->state",
     "r->state", "unit"),
    ("nothing is cut over at the margin", MOVES, "now_us >= w->notice_deadline_us - core->config.cutover_margin_us)",
     "now_us >= w->notice_deadline_us)", "unit"),
    ("nothing is cut over when another worker comes", MOVES,
     "if (has_target(core, w, profile_up)) cutover(core, w, now_us);", "(void)has_target;", "unit"),
    ("a wrong notice lasts for ever", MOVES, "if (now_us >= w->notice_deadline_us + core->config.doom_grace_us)",
     "if (false)", "unit"),
    ("an announcement is forgotten when its instance reconnects", WORKERS, "core_moves_greet(core, w, now_us);", "",
     "unit"),
    ("an announcement is for any process of that name", NOTICES, "n->pid == w->hello.pid && strcmp", "strcmp", "unit"),
]


def run(argv, **kw):
    return subprocess.run(argv, cwd=TREE, capture_output=True, text=True, errors="replace", **kw)


def make(targets):
    return run(["make", "-s", "WARN=-w", *targets])  # a planted bug may leave something unused


def prepare():
    for folder in ("base", "migrate", "controller/core", "tests/sim", "tests/unit"):
        shutil.copytree(os.path.join(ROOT, folder), os.path.join(TREE, folder), dirs_exist_ok=True)
    shutil.copy(os.path.join(ROOT, "Makefile"), TREE)
    p = make([SIM, *UNIT])
    if p.returncode:
        sys.exit("Bail out! the tree does not build:\n" + p.stderr[-2000:])


def mutate(text, old, new):
    """Replaces the one place where old stands, whatever its line breaks; None if there is none or more."""
    pattern = re.compile(r"\s+".join(re.escape(word) for word in old.split()))
    if len(pattern.findall(text)) != 1:
        return None
    return pattern.sub(lambda _: new, text)


def found_by(who):
    """Why the tests fail, or None if they pass."""
    programs = [[SIM, "--seeds", SEEDS, "--first"]] if who == "sim" else [[u] for u in UNIT]
    for argv in programs:
        try:
            p = run(argv, timeout=120)
        except subprocess.TimeoutExpired:
            return "no end"
        if p.returncode:
            said = re.findall(r"^# (seed .*)|(Assertion .*)|(ERROR: .*)|FAILED  \] (test_\w+)", p.stdout + p.stderr,
                              re.M)
            return next((w for words in said for w in words if w), f"exit status {p.returncode}")[:100]
    return None


def try_mutant(number, what, file, old, new, who):
    path = os.path.join(TREE, "controller/core", file)
    with open(path) as f:
        good = f.read()
    bad = mutate(good, old, new)
    if bad is None:
        print(f"not ok {number} - {what} # the text to change is not in {file} just once", flush=True)
        return False
    try:
        with open(path, "w") as f:
            f.write(bad)
        p = make([SIM] if who == "sim" else UNIT)
        why = "it does not build: " + p.stderr[-300:] if p.returncode else found_by(who)
    finally:
        with open(path, "w") as f:
            f.write(good)
    ok = why is not None and p.returncode == 0
    print(f"{'ok' if ok else 'not ok'} {number} - {what}\n# {who}: {why or 'not found'}", flush=True)
    return ok


def main():
    words = sys.argv[1:]
    chosen = [m for m in MUTANTS if not words or any(w in m[0] for w in words)]
    prepare()
    print(f"1..{len(chosen)}", flush=True)
    good = [try_mutant(i + 1, *m) for i, m in enumerate(chosen)]
    make([SIM, *UNIT])
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
