#!/usr/bin/env python3
"""Runs test programs and closes with one line: `N passed, N failed, N skipped`.

A test program is any executable that speaks TAP: cmocka binaries (asked to by CMOCKA_MESSAGE_OUTPUT) and the
scripts of tests/e2e. Each gets a time limit, after which its whole process group is killed, as is what it leaves
behind when it ends. A program that ends without having reported, that reports fewer tests than its plan, or whose
exit status its report does not explain, counts as one failure. Output of failing programs is shown whole; skips are
listed with their reasons.

usage: tests/run.py [--jobs N] [--timeout S] [--report FILE] PROGRAM... [--serial PROGRAM...]

PROGRAM is PATH[,ARG,...][@S]; S seconds are its own limit. Those behind --serial (they need the machine to
themselves) run one at a time when the others have ended. --report writes a JSON line per test.
"""
import argparse
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import time

LINE = re.compile(r"^(not ok|ok)\b\s*\d*\s*-?\s*(.*?)\s*(?:#\s*(SKIP|skip)\b\s*(.*))?$")
PLAN = re.compile(r"^1\.\.(\d+)\b")
LIMIT = re.compile(r"^(.*)@(\d+)$")
OUTPUT_LINES_MAX = 400
KILL_WAIT_S = 10


def kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def execute(argv, timeout):
    """(exit status or None when the limit passed, output)"""
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP", PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1")
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env,
                         start_new_session=True, text=True, errors="replace")
    try:
        output, _ = p.communicate(timeout=timeout)
        return p.returncode, output
    except subprocess.TimeoutExpired:
        kill_group(p.pid)
    try:  # a process that left the group may hold the pipe open
        output, _ = p.communicate(timeout=KILL_WAIT_S)
    except subprocess.TimeoutExpired as e:
        output = (e.stdout or b"").decode(errors="replace") if isinstance(e.stdout, bytes) else e.stdout or ""
    return None, output


def read_tap(output):
    """(tests: [(name, "passed" | "failed" | "skipped", why)], number planned or None)"""
    tests, planned = [], None
    for line in output.splitlines():
        plan, m = PLAN.match(line), LINE.match(line)
        if plan:
            planned = (planned or 0) + int(plan[1])
        elif m and m[3]:
            tests.append((m[2], "skipped", m[4] or "no reason given"))
        elif m:
            tests.append((m[2], "passed" if m[1] == "ok" else "failed", ""))
    return tests, planned


def run(program, timeout):
    """One program: (name, seconds, tests, output)."""
    own = LIMIT.match(program)
    if own:
        program, timeout = own[1], int(own[2])
    argv = program.split(",")
    name = " ".join(os.path.relpath(w) if os.path.exists(w) else w for w in argv)
    start = time.monotonic()
    try:
        status, output = execute(argv, timeout)
    except OSError as e:
        return name, 0.0, [(name, "failed", f"cannot be run: {e}")], ""
    tests, planned = read_tap(output)
    if status is None:
        tests.append((name, "failed", f"no end after {timeout} s"))
    elif status != 0 and not any(result == "failed" for _, result, _ in tests):
        tests.append((name, "failed", f"exit status {status}"))
    elif planned is not None and len(tests) < planned:
        tests.append((name, "failed", f"{len(tests)} tests reported, {planned} planned"))
    elif not tests:
        tests.append((name, "failed", "reported no test"))
    return name, time.monotonic() - start, tests, output


def count(tests, result):
    return sum(1 for t in tests if t[1] == result)


def show(name, seconds, tests, output):
    failed = count(tests, "failed")
    print(f"{'FAIL' if failed else 'ok  '} {name}: {count(tests, 'passed')} passed, {failed} failed, "
          f"{count(tests, 'skipped')} skipped ({seconds:.1f} s)", flush=True)
    if failed:
        print("    " + "\n    ".join(ends_of(output.splitlines())), flush=True)


def ends_of(lines):
    """The first lines, where the seed and the failure stand, and the last ones: a sanitizer's report may be long."""
    half, left_out = OUTPUT_LINES_MAX // 2, len(lines) - OUTPUT_LINES_MAX
    return lines if left_out <= 0 else [*lines[:half], f"... {left_out} lines ...", *lines[-half:]]


def run_all(args):
    """[(program, seconds, tests)] in order of completion, each shown when it ends."""
    done = []
    for programs, jobs in ((args.programs, args.jobs), (args.serial, 1)):
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(run, p, args.timeout) for p in programs]
            for f in concurrent.futures.as_completed(futures):
                name, seconds, tests, output = f.result()
                show(name, seconds, tests, output)
                done.append((name, seconds, tests))
    return done


def write_report(path, done):
    with open(path, "w", encoding="utf-8") as f:
        for program, seconds, tests in done:
            for name, result, why in tests:
                f.write(json.dumps({"program": program, "test": name, "result": result, "why": why,
                                    "program_s": round(seconds, 3)}) + "\n")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--jobs", type=int, default=1)
    ap.add_argument("--timeout", type=int, default=600, help="seconds per program")
    ap.add_argument("--report", help="write a JSON line per test to this file")
    ap.add_argument("--serial", nargs="*", default=[], metavar="PROGRAM")
    ap.add_argument("programs", nargs="*")
    args = ap.parse_args()
    if not args.programs + args.serial:
        ap.error("no program to run")
    done = run_all(args)
    if args.report:
        write_report(args.report, done)
    every = [(program, *test) for program, _, tests in done for test in tests]
    for program, name, result, why in every:
        if result != "passed":
            print(f"{result}: {program}: {name}{': ' + why if why else ''}")
    passed, failed, skipped = (sum(1 for t in every if t[2] == r) for r in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
