"""TAP output for the end-to-end scripts: one line per test, with diagnostics that say what went wrong.

    def test_x(ctx): check(1 + 1 == 2, "sums")
    if __name__ == "__main__":
        sys.exit(tap.main(__doc__, [test_x], arguments=..., setup=...))

A test passes by returning, is skipped by raising Skip(reason), and fails by raising anything else. `setup(args)` is a
context manager whose value every test gets; if it cannot be entered, all tests fail with its reason, or are skipped.
"""

import argparse
import contextlib
import sys
import time
import traceback


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
    """A diagnostic line, kept with the report of the test that runs."""
    for line in str(text).splitlines() or [""]:
        print(f"# {line}", flush=True)


def run_one(number, test, ctx):
    """Runs one test and prints its line; returns whether it did not fail."""
    name, start = test.__name__, time.monotonic()
    try:
        test(ctx)
    except Skip as e:
        print(f"ok {number} - {name} # SKIP {e}", flush=True)
        return True
    except Failure as e:
        note(e)
    except Exception:
        note(traceback.format_exc().rstrip())
    else:
        print(f"ok {number} - {name} ({time.monotonic() - start:.1f} s)", flush=True)
        return True
    print(f"not ok {number} - {name} ({time.monotonic() - start:.1f} s)", flush=True)
    return False


def run_all(tests, args, setup):
    """Enters setup and runs the tests in order; returns the number of failures."""
    print(f"1..{len(tests)}", flush=True)
    failures, entered = 0, False
    try:
        with setup(args) as ctx:
            entered = True
            for i, test in enumerate(tests, 1):
                failures += not run_one(i, test, ctx)
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


def main(doc, tests, arguments=None, setup=None):
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
    return 1 if run_all(chosen, args, setup or (lambda a: contextlib.nullcontext(a))) else 0


if __name__ == "__main__":
    sys.exit("a library: see tests/e2e")
