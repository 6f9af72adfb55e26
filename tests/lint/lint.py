#!/usr/bin/env python3
"""Lint: prints one line per finding, `file:line: what is wrong`, and fails if there is one.

    includes   who may include whom (includes.py)
    shape      lengths, banned calls, the form of public headers (shape.py)
    binaries   nothing that was built is tracked (binaries.py)
    scripts    Python and shell parse
    format     clang-format
    cppcheck   static analysis

usage: tests/lint/lint.py [--only CHECK,...] [ROOT]
"""
import argparse
import os
import sys
import time

sys.dont_write_bytecode = True

import binaries
import includes
import shape
import tools

CHECKS = {
    "includes": includes.check,
    "shape": shape.check,
    "binaries": binaries.check,
    "scripts": tools.check_scripts,
    "format": tools.check_format,
    "cppcheck": tools.check_cppcheck,
}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", default=",".join(CHECKS), help="checks to run, by commas")
    ap.add_argument("root", nargs="?", default=os.path.join(os.path.dirname(__file__), "../.."))
    args = ap.parse_args()
    unknown = [c for c in args.only.split(",") if c not in CHECKS]
    if unknown:
        ap.error(f"no check is named {unknown[0]} ({', '.join(CHECKS)})")
    total = 0
    for name in args.only.split(","):
        start = time.monotonic()
        found = CHECKS[name](os.path.realpath(args.root))
        for line in found:
            print(line)
        print(f"lint: {name}: {f'{len(found)} lines of findings' if found else 'clean'} ({time.monotonic() - start:.1f} s)")
        total += len(found)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
