#!/usr/bin/env python3
"""Plants bugs in the core, one at a time, and checks that the tests find each.

A mutant is one small change of the sources: (what is broken, file, old text, new text, who must find it). "sim": 200
seeds of the simulator; "sessions": as many with --sessions; "unit": the unit tests of the core, for what the simulator does not see because the result stays
right (only later, or elsewhere) or the case is too rare. The sources are copied to build/mutants and built there. Speaks TAP; a mutant whose
old text is not there any more fails, so that this list follows the code.

usage: tests/sim/mutants.py [WORD...]   only mutants whose description holds one of the words
"""
import filecmp, os, re, shutil, subprocess, sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TREE = os.path.join(ROOT, "build", "mutants")
SIM = "build/asan/tests/sim/godwit-sim"
UNIT = [f"build/asan/tests/unit/test_core_{m}"
        for m in ("requests", "workers", "moves", "route", "pipelines", "plan", "transitions",
                  "holders", "warm")]
FOLDERS = ("base", "migrate", "controller/core", "controller/plan", "tests/sim", "tests/unit", "tests/lib")
SEEDS = "200"

TOKENS, REQUESTS, WORKERS = "core_tokens.c", "core_requests.c", "core_workers.c"
ROUTE, MOVES, LOG, CORE, NOTICES = "core_route.c", "core_moves.c", "core_log.c", "core.c", "core_notices.c"
HOLDERS, WARM, STORES = "core_holders.c", "core_warm.c", "core_stores.c"
PIPELINES, PLAN, TRANSITIONS, INTERNAL = "core_pipelines.c", "core_plan.c", "core_transitions.c", "core_internal.h"

MUTANTS = [
    # who may speak for a request
    ("attempt is not checked", REQUESTS, "r && r->pipeline == p && r->attempt == attempt", "r && r->pipeline == p", "sim"),
    ("pipeline is not checked", REQUESTS, "r && r->pipeline == p && r->attempt == attempt",
     "r && r->pipeline && r->attempt == attempt", "sim"),
    ("term is not checked", WORKERS, "if (msg->term != core->config.term) return false;", "", "sim"),
    ("generation is not checked", PIPELINES, "return p && p->generation == generation ? p : NULL;", "return p;", "sim"),
    ("who is no rank may speak for a pipeline", WORKERS,
     "return p && (p == w->serving || p == w->prepared) ? p : NULL;", "return p;", "unit"),
    ("ranks may speak for their leader", WORKERS, "if (core_leader(p) != w || p != w->serving) {", "if (false) {", "unit"),
    ("heartbeats may carry fences", WORKERS, "return msg->pipeline == 0 && msg->generation == 0;", "return true;", "unit"),
    ("stale frames do not show life", WORKERS,
     "w->hello.proto >= CORE_PROTO_PIPELINE)) heard(core, w, now_us);", "false)) heard(core, w, now_us);", "unit"),
    ("attempt does not grow", REQUESTS, "r->attempt++;", "if (r->attempt == 0) r->attempt = 1;", "sim"),
    ("generation does not grow", PIPELINES, "p->generation = ++core->last_generation;",
     "p->generation = core->last_generation = 1;", "sim"),
    # what a resubmitted request carries
    ("log is sent one record short", HOLDERS, "{r->logs[i].len, r->logs[i].done",
     "{r->logs[i].len > 0 ? r->logs[i].len - 1 : 0, r->logs[i].done", "sim"),
    ("log is not sent", HOLDERS, "{r->logs[i].len, r->logs[i].done", "{0, r->logs[i].done", "sim"),
    ("ended branches are not marked", HOLDERS, "r->logs[i].len, r->logs[i].done,", "r->logs[i].len, false,", "sim"),
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
    ("impossible records are taken", TOKENS, "if (!plausible(p, r, m)) {", "if (false && !plausible(p, r, m)) {", "unit"),
    ("stop does not cut the log", REQUESTS, "if (keep < r->logs[branch].len) r->logs[branch].len = keep;", "(void)keep;",
     "sim"),
    ("a request is done one branch early", REQUESTS, "if (r->open > 0) return;", "if (r->open > 1) return;", "sim"),
    ("logprobs of the wrong records", LOG, "log->logprobs + first", "log->logprobs", "sim"),
    ("top pairs of the wrong records", LOG, "log->top + (size_t)first * top_n", "log->top", "sim"),
    ("top pairs stored with the wrong stride", LOG, "&t->top[(size_t)i * t->top_n]", "&t->top[i]", "sim"),
    ("what actions point to is freed too early", REQUESTS, "r->next = core->dead_requests; core->dead_requests = r;",
     "core_request_free(r);", "sim"),
    # loss
    ("a lost request is forgotten", REQUESTS, "requeue(core, r, now_us, hold); }",
     "if (r->attempt != 2) requeue(core, r, now_us, hold); }", "sim"),
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
    ("a suspect does not wait until it is alone", ROUTE, "p->alone->state == CORE_QUEUED && p->requests.len == 0",
     "p->alone->state == CORE_QUEUED", "sim"),
    ("others join a suspect", ROUTE, "if (p->state != CORE_SERVING || p->alone) return false;",
     "if (p->state != CORE_SERVING) return false;", "sim"),
    ("a lost pipeline stays reserved", PIPELINES, "if (p->alone) core_release(core, p->alone);", "", "sim"),
    ("a pipeline stays reserved after its suspect", REQUESTS,
     "core_list_remove(r); core_release(core, r); if (p->moving", "core_list_remove(r); if (p->moving", "sim"),
    ("a pipeline that drains stays reserved", MOVES,
     "if (p->alone && p->alone->state == CORE_QUEUED) core_release(core, p->alone);", "", "unit"),
    # who keeps pages
    ("who has just come is not told who keeps pages", STORES, "w->stores_version == core->stores_version) continue;",
     "w->stores_version != core->stores_version - 1) continue;", "sim"),
    ("workers that will go are told as keeping pages", STORES, "return w->state == CORE_UP && h->proto", "return h->proto",
     "sim"),
    ("a worker that goes stays in the list", STORES, "if (!same) core->stores_version++;",
     "if (len > core->stores_len) core->stores_version++;", "sim"),
    # queue and routing
    ("doomed pipelines get requests", ROUTE, "return p->stays || !core->stays", "return true || !core->stays", "sim"),
    ("the only pipeline gets no requests when it is doomed", ROUTE, "return p->stays || !core->stays[",
     "return p->stays || false && !core->stays[", "unit"),
    ("pipelines that drain get requests", ROUTE, "if (p->state != CORE_SERVING || p->alone) return false;",
     "if (p->state < CORE_SERVING || p->alone) return false;", "sim"),
    ("ended branches count as load", REQUESTS, "if (r->pipeline) r->pipeline->branches--;", "", "sim"),
    ("requests that left count as load", REQUESTS, "p->branches -= r->open;", "", "unit"),
    ("prompts that left count as load", REQUESTS,
     "p->prefill_tokens -= r->prefill_tokens; r->prefill_tokens = 0; r->pipeline", "r->prefill_tokens = 0; r->pipeline",
     "unit"),
    ("a pipeline that starts is not used", PIPELINES,
     "->count = p->ranks_len; core->review_due = true; core->dispatch_due = true; }",
     "->count = p->ranks_len; core->review_due = true; }", "unit"),
    ("streams change their numerics profile", ROUTE, "return r->profile == CORE_PROFILE_NONE ||", "return true ||", "sim"),
    ("requests too long for a pipeline go there", ROUTE, "(p->context == 0 || need <= p->context)", "true", "unit"),
    ("waiting has no end", REQUESTS, "while (list->first && list->first->wait_until_us <= now_us)",
     "while (false && list->first && now_us > 0)", "unit"),
    ("the queue has no limit", REQUESTS, "core->fresh.len >= core->config.max_queued ?", "false ?", "unit"),
    ("affinity overloads one worker", ROUTE, "return weighed_load(affine) <= AFFINITY_FACTOR * weighed_load(least) + AFFINITY_SLACK",
     "return weighed_load(affine) + 1 > 0", "unit"),
    ("no affinity", ROUTE, "struct core_pipeline *p = core_pipeline_find(core, a->pipeline, a->generation); if (p) return p;",
     "", "unit"),
    ("tenants share prefixes", ROUTE, "gw_hash64(q->tenant, sizeof q->tenant, 0)", "gw_hash64(q->tenant, 0, 0)", "unit"),
    # cancels
    ("the worker is not told of a stop", REQUESTS,
     "if (r->pipeline) core_send_cancel(core, r, r->open == 1 ? GW_BRANCH_ALL : branch);", "", "sim"),
    ("the worker is not told of a cancel", REQUESTS,
     "if (r->pipeline) core_send_cancel(core, r, GW_BRANCH_ALL); core->stats.cancelled++;", "core->stats.cancelled++;",
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
    ("a missing HANDOFF is waited for", MOVES, "give_up(core, p, now_us, true);", "p->handoff_deadline_us = 0;", "unit"),
    ("HANDOFF is ignored", MOVES, "core_request_lost(core, r, now_us, r->state == CORE_MOVING);", "(void)now_us;", "unit"),
    ("CUTOVER names the wrong attempt", MOVES, "{r->request->id, r->attempt};", "{r->request->id, r->attempt - 1};", "sim"),
    ("CUTOVER names requests that move already", MOVES, "if (r->state == CORE_MOVING) continue; r->state",
     "r->state", "unit"),
    ("nothing is cut over at the margin", TRANSITIONS, "now_us >= deadline_us - core->config.cutover_margin_us;",
     "now_us >= deadline_us;", "sim"),
    ("nothing is cut over when another pipeline comes", TRANSITIONS,
     "return (p->single || !core_plan_pending(core)) && has_target(core, p);", "return false && has_target(core, p);",
     "unit"),
    ("a wrong notice lasts for ever", MOVES, "if (w && worker_due_us(core, w) <= now_us)", "if (false)", "sim"),
    ("an announcement is forgotten when its instance reconnects", WORKERS, "core_notices_greet(core, w, now_us);", "",
     "unit"),
    ("an announcement is for any process of that name", NOTICES, "n->pid == w->hello.pid && strcmp", "strcmp", "unit"),
    # recommendations
    ("a recommendation dooms", NOTICES, "if (kind == GW_NOTICE_REBALANCE) { on_advice(core, now_us, name); return; }", "", "unit"),
    ("a worker's own recommendation dooms", NOTICES, "if (m->kind == GW_NOTICE_REBALANCE) { advise(core, w); return; }", "",
     "unit"),
    ("a recommendation takes a notice's place", NOTICES, "if (!is_worker && !is_noticed(core, name, now_us))",
     "if (!is_worker)", "unit"),
    ("a recommendation is not remembered", NOTICES, "if (is_advised(core, w, now_us)) advise(core, w);", "", "unit"),
    ("a remembered recommendation dooms", NOTICES, "n->name[0] == '\\0' || n->advice || n->deadline_us", "n->name[0] == '\\0' || n->deadline_us",
     "unit"),
    ("new work does not care for recommendations", ROUTE, "return p->advised ?", "return false ?", "unit"),
    # plans
    ("what the plan has already is made anew", PLAN, "if (is_run(p, run)) return p;", "if (false && is_run(p, run)) return p;",
     "sim"),
    ("cells are not compared with what is there", PLAN,
     "if (a.g0 != b.g0 || a.g1 != b.g1 || a.s0 != b.s0 || a.s1 != b.s1) return false;", "(void)a; (void)b;", "unit"),
    ("what the plan does not have serves for ever", PLAN, "p->retired = !p->planned;", "p->retired = false;", "unit"),
    ("what the plan does not have goes on forming", PLAN, "if (prepared && !p->planned)", "if (false && prepared)", "sim"),
    ("plans may have doomed workers", PLAN,
     'if (w->state == CORE_DOOMED) return "planned, but one of its workers will go";', "", "sim"),
    ("plans may have a worker in two pipelines", PLAN,
     'if (w->epoch == core->epoch) return "planned with a worker that another pipeline has";', "", "sim"),
    ("plans may have a worker twice in one pipeline", PLAN, "if (names_twice(run, i)) return", "if (false && names_twice(run, i)) return",
     "sim"),
    ("plans may leave cells out", PLAN, "return tiles_grid(core, run) ? NULL :", "return true || tiles_grid(core, run) ? NULL :",
     "sim"),
    ("plans may mix numerics profiles", PLAN, "if (w->profile != leader->profile) return", "if (false) return", "unit"),
    ("plans may have workers of protocol 1", PLAN, "if (w->hello.proto < CORE_PROTO_PIPELINE) return", "if (false) return",
     "unit"),
    ("a plan for an older fleet is the last word", PLAN, "if (plan->fleet != core->fleet) core->plan_due = true;",
     "if (plan->fleet != core->fleet) (void)0;", "unit"),
    ("fleets have no numbers", PLAN, "plan_wanted.fleet = ++core->fleet;", "plan_wanted.fleet = core->fleet = 1;", "sim"),
    ("who comes is not planned", WORKERS,
     "core->stores_due = true; if (w->hello.proto >= CORE_PROTO_PIPELINE) core_want_plan(core); }",
     "core->stores_due = true; }", "sim"),
    ("nothing is planned after BROKEN", PIPELINES,
     'core_pipeline_end(core, p, now_us, text ? text : "broken", announced); core_want_plan_later(core, now_us);',
     'core_pipeline_end(core, p, now_us, text ? text : "broken", announced);', "sim"),
    ("breaking counts though a rank is doomed", PIPELINES, "bool announced = core_pipeline_deadline_us(p) != INT64_MAX;",
     "bool announced = false;", "unit"),
    ("breaking again and again does not slow it down", PLAN, "core->replan_wait_us > 0 ? core->replan_wait_us * 2 :",
     "false ? 0 :", "unit"),
    ("waits grow though pipelines work", PLAN, "if (p->generation > core->broken_generation) core->replan_wait_us = 0;",
     "(void)p; (void)core;", "unit"),
    ("an older pipeline's work makes up for a broken one", PLAN, "if (p->generation > core->broken_generation) core",
     "if (p) core", "unit"),
    # pipelines
    ("ranks are told that they lead", PIPELINES, "{p->epoch, i, p->ranks_len, ranks}", "{p->epoch, 0, p->ranks_len, ranks}",
     "sim"),
    ("START before the last READY", PIPELINES, "if (++p->ready_len < p->ranks_len) return;",
     "if (++p->ready_len + 1 < p->ranks_len) return;", "sim"),
    ("READY counts twice", PIPELINES, "if (rank->ready) { core->stats.stale_frames++; return; }", "", "sim"),
    ("a pipeline can hold what its largest rank can", PIPELINES, "return a == 0 || b < a ? b : a;", "return b > a ? b : a;",
     "unit"),
    ("the last rank leads", INTERNAL, "return p->ranks[0].worker;", "return p->ranks[p->ranks_len - 1].worker;", "sim"),
    ("survivors are not released", PIPELINES, "(void)core_send(core, w, p, GW_MSG_RELEASE);", "", "sim"),
    ("forming has no end", MOVES, "core_pipeline_timed_out(core, p, now_us);", "p->prepare_deadline_us = INT64_MAX;", "sim"),
    ("a pipeline forms on with a doomed worker", NOTICES,
     'if (w->prepared) core_pipeline_end(core, w->prepared, now_us, "one of its workers will go", true);', "", "unit"),
    ("a lost worker's pipeline forms on", WORKERS, "if (prepared) core_pipeline_end(core, prepared,",
     "if (false) core_pipeline_end(core, prepared,", "sim"),
    # transitions
    ("a component does not wait for all its new pipelines", TRANSITIONS,
     "root->all_ready = root->all_ready && p->state == CORE_READY;", "", "unit"),
    ("new pipelines start while old ones have requests", TRANSITIONS,
     "root->all_drained = root->all_drained && is_drained(p);", "", "sim"),
    ("components end at their first worker", TRANSITIONS, "if (old) root_of(old)->root = root_of(p);",
     "if (old && i == 0) root_of(old)->root = root_of(p);", "sim"),
    ("components do not join", TRANSITIONS, "if (old) root_of(old)->root = root_of(p);",
     "if (old && old->root == old) old->root = root_of(p);", "unit"),
    ("who STARTs is released as well", TRANSITIONS, "start_ready(core); end_drained(core, now_us);",
     "end_drained(core, now_us); start_ready(core);", "unit"),
    ("a doomed pipeline does not wait for the plan", TRANSITIONS, "return (p->single || !core_plan_pending(core)) &&",
     "return", "unit"),
    ("what drained does not serve again", TRANSITIONS, "if (drain || p->state != CORE_DRAINING) return;",
     "if (drain || p) return;", "unit"),
    ("the last HANDOFF is not looked at", REQUESTS,
     "if (p->state == CORE_DRAINING && p->requests.len == 0) core->review_due = true;", "", "unit"),
    ("what is held stays held", TRANSITIONS, "if (!any) core_requests_unhold(core, now_us);", "(void)any; (void)now_us;", "sim"),
    ("nothing is held for successors", REQUESTS, "bool hold = r->pipeline->cutting;", "bool hold = false;", "unit"),
    ("planned away is as good as staying", TRANSITIONS, "(!p->retired || root_of(p)->heirs);", "true;", "unit"),
    ("heirs are not waited for", TRANSITIONS, "if (root->heirs || (!is_doomed(p) && !p->retired)) return false;",
     "if (!is_doomed(p) && !p->retired) return false;", "unit"),
    # who has KV
    ("dead workers are named as holders", HOLDERS, "const struct core_worker *w = gw_id_map_get(&core->links, h->link);",
     "static struct core_worker ghost; ghost.hello.proto = 3; ghost.profile = p->profile; ghost.hello.pages[0] = 'x'; "
     "const struct core_worker *w = gw_id_map_get(&core->links, h->link); if (!w) w = &ghost;", "sim"),
    ("holders of another profile are named", HOLDERS, "&& w->profile == p->profile;", ";", "unit"),
    ("workers of protocol 2 are named as holders", HOLDERS, "return w && w->hello.proto >= CORE_PROTO_KV && w->hello.pages[0]",
     "return w && (w->hello.proto < CORE_PROTO_KV || w->hello.pages[0])", "sim"),
    ("holders are named to protocol 2", HOLDERS, "if (core_leader(p)->hello.proto < CORE_PROTO_KV) return 0;", "", "sim"),
    ("a rank is named to itself", HOLDERS, "if (!can_serve(w, p) || is_own(p, h)) continue;", "if (!can_serve(w, p)) continue;",
     "unit"),
    ("a request forgets where it has been", REQUESTS, "if (r->started) core_holders_left(r, r->pipeline);", "", "unit"),
    ("where a request never began is named", REQUESTS, "if (r->started) core_holders_left", "core_holders_left", "unit"),
    ("the oldest holders are kept", HOLDERS, "list_add_pipeline(&list, p); list_add(&list, r->holders, r->holders_len); remember",
     "list_add(&list, r->holders, r->holders_len); list_add_pipeline(&list, p); remember", "unit"),
    ("fewer holders than a message names", HOLDERS, "k < len && list->len < GW_WIRE_HOLDERS_MAX;",
     "k < len && list->len < 10;", "unit"),
    ("a prefix elsewhere is not named", ROUTE, "name_prefix_holders(core, list->first, hashes, count, p);",
     "(void)name_prefix_holders;", "unit"),
    ("a prefix of the past is not named", PIPELINES,
     "if (p->state == CORE_SERVING || p->state == CORE_DRAINING) core_holders_bury(core, p);", "", "unit"),
    ("requests of an earlier controller have no holders", HOLDERS,
     "if (!moves && r->attempt == 1 && core_request_committed(r) > 0) list_add_everybody(&list, core);", "(void)list_add_everybody;",
     "unit"),
    ("protocol 2 is told where pages are", PIPELINES, "if (proto >= CORE_PROTO_KV && h->proto >= CORE_PROTO_KV)",
     "if (h->proto >= CORE_PROTO_KV)", "unit"),
    ("ORIGIN counts twice", WARM, "if (r->has_origin) {", "if (false) {", "unit"),
    ("ORIGIN of a new request counts", WARM, "if (r->attempt == 1 && !r->helped) return;", "", "sim"),
    ("ORIGIN of a later attempt is not counted", REQUESTS, "r->started = r->has_origin = false;", "r->started = false;", "sim"),
    ("what was copied ahead counts as cached", ROUTE, "r->copied_tokens = core_warm_target(core, r) == p ? r->warm.tokens : 0;", "",
     "sim"),
    # copying ahead
    ("nothing is copied ahead", WARM, "if (now_us >= p->warm_until_us) return true;", "if (p) return true;", "unit"),
    ("a copy has no end", WARM, "if (now_us >= p->warm_until_us) return true;", "", "unit"),
    ("a copy goes on behind the margin", TRANSITIONS, "if (at_margin(core, p, now_us)) return true; return must_leave",
     "return must_leave", "sim"),
    ("the margin of one does not end its component's copying", TRANSITIONS,
     "(p->state == CORE_DRAINING || at_margin(core, p, now_us))) root_of(p)->all_warm = true;",
     "false) root_of(p)->all_warm = true;", "unit"),
    ("old ones do not wait for each other's copies", TRANSITIONS,
     "if (p->state == CORE_SERVING && !p->warm) root_of(p)->all_warm = false;", "", "unit"),
    ("rounds without end", WARM, "p->warm_rounds++;", "", "unit"),
    ("one round only", WARM, "#define CORE_WARM_ROUNDS 3", "#define CORE_WARM_ROUNDS 1", "unit"),
    ("quick copies are made again", WARM, "if (r->warm.pending || r->warm.took_us <= CORE_WARM_SLOW_US) return false;",
     "if (r->warm.pending) return false;", "unit"),
    ("copies are made again without news", WARM, "r->warm.committed + CORE_WARM_AGAIN_TOKENS;", "r->warm.committed;", "sessions"),
    ("what never began is copied", WARM, "!r->started || r->alone) return false;", "r->alone) return false;", "sessions"),
    ("copies to protocol 2", WARM, "return core_leader(to)->hello.proto >= CORE_PROTO_KV && to->profile",
     "return to->profile", "unit"),
    ("copies to another profile", WARM, "&& to->profile == p->profile && core_may_follow(p, to);", "&& core_may_follow(p, to);",
     "unit"),
    ("copies without anybody to copy from", HOLDERS, "if (type == GW_MSG_WARM && holders_len == 0) return GW_ERR_NOT_FOUND;", "",
     "sim"),
    ("copies to where there is no room", WARM, "to->warm_tokens + tokens > to->kv_tokens) continue;", "false) continue;", "sessions"),
    ("copies are not balanced", WARM, "if (!best || to->warm_tokens < best->warm_tokens) best = to;", "if (!best) best = to;",
     "unit"),
    ("least KV first", WARM, "return kv_x > kv_y ? -1 : 1;", "return kv_x < kv_y ? -1 : 1;", "unit"),
    ("copies to what will go, too", TRANSITIONS, "return to->stays && to != p;",
     "return to->state == CORE_SERVING && to != p;", "sessions"),
    ("a copy stays when its request ends", REQUESTS, "core_warm_end(core, r, NULL); if (r->pipeline)", "if (r->pipeline)", "sessions"),
    ("a copy stays when its request goes elsewhere", ROUTE, "core_warm_end(core, r, p);", "", "sessions"),
    ("the copy is taken back where the request goes", WARM, "if (target && target != to) {", "if (target) {", "unit"),
    ("a request does not go where its copy is", ROUTE, "if (warm && eligible(core, r, warm) && fits(r, warm)) return warm;", "",
     "unit"),
    ("a request goes where its copy is, room or not", ROUTE,
     "if (warm && eligible(core, r, warm) && fits(r, warm)) return warm;", "if (warm) return warm;", "sessions"),
    ("a copy that is of no use is waited for", WARM, "drop_useless(core, p);", "(void)drop_useless;", "unit"),
    ("any WARMED will do", WARM,
     "!r->warm.pending || r->warm.generation != p->generation || r->warm.attempt != m->attempt) {", "!r->warm.pending) {", "unit"),
    ("ranks may say WARMED", WORKERS, "if (core_leader(p) == w) core_on_warmed", "if (p) core_on_warmed", "unit"),
    ("the last WARMED is not looked at", WARM, "if (--r->pipeline->warming == 0) core->review_due = true;",
     "--r->pipeline->warming;", "unit"),
    ("a target's end is waited for", PIPELINES, "core_warm_target_lost(core, p);", "", "unit"),
    ("a request that leaves is waited for", REQUESTS, "if (r->warm.pending && --p->warming == 0) core->review_due = true;", "",
     "unit"),
    ("requests wait for successors while copies are made", TRANSITIONS, "root->all_ready && root->all_warm;",
     "root->all_ready;", "unit"),
]


def run(argv, **kw):
    return subprocess.run(argv, cwd=TREE, capture_output=True, text=True, errors="replace", **kw)


def make(targets):
    return run(["make", "-s", "WARN=-w", *targets])  # a planted bug may leave something unused


def copy_changed(source, target):
    """What differs is new, whatever its time was: make goes by that."""
    if not os.path.exists(target) or not filecmp.cmp(source, target, shallow=False):
        shutil.copy(source, target)


def prepare():
    for folder in FOLDERS:
        shutil.copytree(os.path.join(ROOT, folder), os.path.join(TREE, folder), dirs_exist_ok=True,
                        copy_function=copy_changed)
    shutil.copy(os.path.join(ROOT, "Makefile"), TREE)
    p = make([SIM, *UNIT])
    if p.returncode:
        sys.exit("Bail out! the tree does not build:\n" + p.stderr[-2000:])
    for who in ("unit", "sim", "sessions"):
        why = found_by(who)
        if why:
            sys.exit(f"Bail out! {who} fails without any bug: {why}")


def mutate(text, old, new):
    """Replaces the one place where old stands, whatever its line breaks; None if there is none or more."""
    pattern = re.compile(r"\s+".join(re.escape(word) for word in old.split()))
    if len(pattern.findall(text)) != 1:
        return None
    return pattern.sub(lambda _: new, text)


def found_by(who):
    """Why the tests fail, or None if they pass."""
    sim = [SIM, "--seeds", SEEDS, "--first"] + (["--sessions"] if who == "sessions" else [])
    programs = [[u] for u in UNIT] if who == "unit" else [sim]
    for argv in programs:
        try:
            p = run(argv, timeout=120)
        except subprocess.TimeoutExpired:
            return "no end"
        if p.returncode:
            said = re.findall(r"^# (seed .*)|(Assertion .*)|(ERROR: .*)|FAILED  \] (test_\w+)|(\S+: runtime error: .*)", p.stdout + p.stderr,
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
        p = make(UNIT if who == "unit" else [SIM])
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
