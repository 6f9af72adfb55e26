#!/usr/bin/env python3
"""Runs test programs and closes with one line: `N passed, N failed, N skipped`.

A test program is any executable that speaks TAP: cmocka binaries (asked to by CMOCKA_MESSAGE_OUTPUT) and the
scripts of tests/e2e. Each gets a time limit, after which its whole process group is killed; a program that ends
without having reported, or with an exit status that its report does not explain, counts as one failure. Output of
failing programs is shown whole; skips are listed with their reasons.

usage: tests/run.py [--jobs N] [--timeout S] PROGRAM [ARG,ARG...]...
"""
import argparse, concurrent.futures, os, re, signal, subprocess, sys, time

LINE = re.compile(r"^(not ok|ok)\b\s*\d*\s*-?\s*(.*?)\s*(?:#\s*(SKIP|skip)\b\s*(.*))?$")


def run(program, timeout):
    """One program → (name, seconds, passed, failed, [(test, why)], output)."""
    argv = program.split(",")
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP", PYTHONUNBUFFERED="1")
    start = time.monotonic()
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env,
                         start_new_session=True, text=True, errors="replace")
    timed_out = False
    try:
        output, _ = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(p.pid, signal.SIGKILL)
        output, _ = p.communicate()
    passed, failed, skipped = 0, [], []
    for line in output.splitlines():
        m = LINE.match(line)
        if not m:
            continue
        if m[3]:
            skipped.append((m[2], m[4]))
        elif m[1] == "ok":
            passed += 1
        else:
            failed.append(m[2])
    if timed_out:
        failed.append(f"{os.path.basename(argv[0])}: no end after {timeout} s")
    elif p.returncode != 0 and not failed:
        failed.append(f"{os.path.basename(argv[0])}: exit status {p.returncode}")
    elif passed + len(failed) + len(skipped) == 0:
        failed.append(f"{os.path.basename(argv[0])}: reported no test")
    return program, time.monotonic() - start, passed, failed, skipped, output


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--jobs", type=int, default=1)
    ap.add_argument("--timeout", type=int, default=600, help="seconds per program")
    ap.add_argument("programs", nargs="+")
    args = ap.parse_args()
    total, bad, skips = 0, [], []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for f in concurrent.futures.as_completed([pool.submit(run, p, args.timeout) for p in args.programs]):
            program, seconds, passed, failed, skipped, output = f.result()
            name = " ".join(os.path.relpath(w) if os.path.exists(w) else w for w in program.split(","))
            print(f"{'FAIL' if failed else 'ok  '} {name}: {passed} passed, {len(failed)} failed, "
                  f"{len(skipped)} skipped ({seconds:.1f} s)", flush=True)
            if failed:
                print("    " + "\n    ".join(output.splitlines()[-400:]), flush=True)
            total += passed
            bad += failed
            skips += [(name, t, why) for t, why in skipped]
    for name, test, why in skips:
        print(f"skipped: {name}: {test}: {why or 'no reason given'}")
    for test in bad:
        print(f"failed: {test}")
    print(f"{total} passed, {len(bad)} failed, {len(skips)} skipped")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
