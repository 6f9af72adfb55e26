"""TAP output for the end-to-end scripts: one line per test, with diagnostics that say what went wrong.

    def test_x(ctx): check(1 + 1 == 2, "sums")
    if __name__ == "__main__":
        sys.exit(tap.main(__doc__, [test_x], arguments=..., setup=...))

A test passes by returning, is skipped by raising Skip(reason), and fails by raising anything else. `setup(args)` is a
context manager whose value every test gets; if it cannot be entered, all tests fail with its reason, or are skipped.
With side_by_side=N, N tests at a time run in threads of their own; a test marked with @alone runs before them by itself.
"""

import argparse
import concurrent.futures
import contextlib
import sys
import threading
import time
import traceback


_own = threading.local()  # .lines: what the test in this thread has noted


class Skip(Exception):
    """Raised by a test (or by setup) that cannot run here; the text says why."""


class Failure(Exception):
    """A condition that the test is about does not hold."""


def check(condition, text):
    """Fails the test with `text` unless the condition holds."""
    if not condition:
        raise Failure(text)


def check_equal(got, want, what):
    """Fails the test unless got == want; shows both."""
    if got != want:
        raise Failure(f"{what}: got {clip(got)}, expected {clip(want)}")


def clip(value, most=400):
    """repr(), cut where it would flood a report."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + f"… ({len(text)} characters)"


def note(text):
    """Diagnostic lines, kept with the report of the test that runs; of a thread that no test has, printed at once."""
    lines = [f"# {line}" for line in str(text).splitlines() or [""]]
    if hasattr(_own, "lines"):
        _own.lines += lines
    else:
        print("\n".join(lines), flush=True)


def alone(test):
    """Marks a test that must have the machine to itself."""
    test.alone = True
    return test


def run_one(number, test, ctx):
    """Runs one test; returns whether it did not fail, and its report."""
    name, start = test.__name__, time.monotonic()
    _own.lines = []
    passed, skip = True, ""
    try:
        test(ctx)
    except Skip as e:
        skip = f" # SKIP {e}"
    except Failure as e:
        passed = False
        note(e)
    except Exception:
        passed = False
        note(traceback.format_exc().rstrip())
    lines = _own.lines
    del _own.lines
    result = f"{'ok' if passed else 'not ok'} {number} - {name}" + (skip or f" ({time.monotonic() - start:.1f} s)")
    return passed, "\n".join([*lines, result])


def run_tests(tests, ctx, side_by_side):
    """Shows each report; returns the number of failures."""
    numbered = list(enumerate(tests, 1))
    first = [(i, t) for i, t in numbered if side_by_side == 1 or getattr(t, "alone", False)]
    failures = sum(not show(run_one(i, t, ctx)) for i, t in first)
    with concurrent.futures.ThreadPoolExecutor(side_by_side) as pool:
        futures = [pool.submit(run_one, i, t, ctx) for i, t in numbered if (i, t) not in first]
        return failures + sum(not show(f.result()) for f in concurrent.futures.as_completed(futures))


def show(outcome):
    passed, report = outcome
    print(report, flush=True)
    return passed


def run_all(tests, args, setup, side_by_side=1):
    """Enters setup and runs the tests in order; returns the number of failures."""
    print(f"1..{len(tests)}", flush=True)
    failures, entered = 0, False
    try:
        with setup(args) as ctx:
            entered = True
            failures = run_tests(tests, ctx, side_by_side)
    except Skip as e:
        if entered:
            raise
        for i, test in enumerate(tests, 1):
            print(f"ok {i} - {test.__name__} # SKIP {e}", flush=True)
    except Exception:
        note(traceback.format_exc().rstrip())
        if entered:
            print(f"not ok {len(tests) + 1} - clean end", flush=True)
            return failures + 1
        for i, test in enumerate(tests, 1):
            print(f"not ok {i} - {test.__name__}", flush=True)
        return len(tests)
    return failures


def main(doc, tests, arguments=None, setup=None, side_by_side=1):
    """Parses the command line, runs the tests that it selects, returns the exit status."""
    ap = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", metavar="TEXT", default="", help="run only the tests whose name contains TEXT")
    ap.add_argument(
        "--variant",
        choices=["release", "asan", "mixed"],
        help="which build to run on (default: $GODWIT_VARIANT, else what the test says, else asan)",
    )
    if arguments:
        arguments(ap)
    args = ap.parse_args()
    chosen = [t for t in tests if args.only in t.__name__]
    if not chosen:
        ap.error(f"no test has {args.only!r} in its name")
    return 1 if run_all(chosen, args, setup or (lambda a: contextlib.nullcontext(a)), side_by_side) else 0


if __name__ == "__main__":
    sys.exit("a library: see tests/e2e")
