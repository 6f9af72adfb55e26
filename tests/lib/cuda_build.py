#!/usr/bin/env python3
"""Compiles the CUDA operations by nvcc, one object per source, and looks at what ptxas says of each kernel; then links the library
that a worker loads, with CUDA's runtime in it.

Attention kernels may not spill: their loops live in registers, and a spill there is a bug in their tile. (Not so on sm_75, where a
tensor core's product is a function that is called.) Prints TAP, a test per source; where there is no nvcc, one that is skipped.

usage: tests/lib/cuda_build.py [--archs "75 80 90a"] [--out DIR] [--jobs N] [--library FILE --version V] SOURCE...

Sources of C are compiled for the library, by cc.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
# What the source says is what is computed: as on the CPU with FTZ and DAZ (kernels/cuda/device.cuh).
FLAGS = ["-std=c++17", "-O3", "-lineinfo", "-fmad=false", "-ftz=true", "-prec-div=true", "-prec-sqrt=true", "-Xptxas", "-v",
         "-Werror", "all-warnings", "-Xcompiler", "-fPIC,-fvisibility=hidden"]
C_FLAGS = ["-std=gnu17", "-O3", "-g", "-ffp-contract=off", "-fno-strict-aliasing", "-pthread", "-D_GNU_SOURCE", "-fPIC",
           "-fvisibility=hidden", "-fstack-protector-strong", "-Wall", "-Wextra",
           "-Werror", "-Wno-format-truncation", "-Wno-missing-field-initializers"]
ENTRY = re.compile(r"Compiling entry function '([^']+)' for '([^']+)'")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
LIMIT_S = 600  # of one source


def find_nvcc():
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("nvcc") or shutil.which(os.path.join(home, "bin/nvcc"))


def spilling(text):
    """Kernels that spill: (name, arch, bytes stored, bytes loaded)."""
    found, entry = [], ("?", "?")
    for line in text.splitlines():
        e, s = ENTRY.search(line), SPILLS.search(line)
        entry = e.groups() if e else entry
        if s and (int(s[1]) or int(s[2])) and entry[1] != "sm_75":
            found.append((*entry, int(s[1]), int(s[2])))
    return found


def object_of(source, out):
    return os.path.join(out, os.path.splitext(source)[0] + ".o")


def build_c(nvcc, source, out, version):
    """The same of a source of C."""
    include = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(nvcc))), "include")
    p = subprocess.run(["cc", *C_FLAGS, f'-DGW_VERSION="{version}"', "-I.", "-isystem", include, "-c", source, "-o",
                        object_of(source, out)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       errors="replace", timeout=LIMIT_S)
    return p.stdout.splitlines()[-30:] or ["cc failed"] if p.returncode else None


def build(nvcc, source, archs, out, version):
    """None, or what went wrong, as lines."""
    target = object_of(source, out)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if source.endswith(".c"):
        return build_c(nvcc, source, out, version)
    codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in archs]
    try:
        p = subprocess.run([nvcc, *FLAGS, *codes, "-I.", "-c", source, "-o", target], cwd=ROOT, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, errors="replace", timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return [f"nvcc takes more than {LIMIT_S} s"]
    if p.returncode:
        return p.stdout.splitlines()[-30:]
    if not ENTRY.search(p.stdout):
        return ["ptxas tells of no kernel"]
    if "attention" in os.path.basename(source):
        return [f"{name} ({arch}) spills: {stores} bytes stored, {loads} loaded" for name, arch, stores, loads in
                spilling(p.stdout)] or None
    return None


def link(nvcc, library, objects):
    """None, or what went wrong, as lines."""
    os.makedirs(os.path.dirname(os.path.join(ROOT, library)), exist_ok=True)
    p = subprocess.run([nvcc, "-shared", "-cudart", "static", "-o", library, *objects, "-Xlinker", "-z,defs", "-ldl", "-lpthread"],
                       cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=LIMIT_S)
    return p.stdout.splitlines()[-30:] or ["the linker failed"] if p.returncode else None


def report(number, what, wrong):
    for line in wrong or []:
        print(f"# {line}")
    print(f"{'not ok' if wrong else 'ok'} {number} - {what}", flush=True)
    return wrong is not None


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--archs", default="90a", help="by spaces or +, as in sm_<arch>")
    ap.add_argument("--out", default="build/cuda")
    ap.add_argument("--jobs", type=int, default=os.cpu_count())
    ap.add_argument("--library", help="to be linked of the sources")
    ap.add_argument("--version", default="unknown", help="that the worker must have")
    ap.add_argument("sources", nargs="+")
    args = ap.parse_args()
    nvcc = find_nvcc()
    if not nvcc:
        print("1..1\nok 1 - cuda build # SKIP no nvcc")
        return 0
    archs, out = args.archs.replace("+", " ").split(), os.path.join(ROOT, args.out)
    failed = 0
    print(f"1..{len(args.sources) + bool(args.library)}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        results = pool.map(lambda source: build(nvcc, source, archs, out, args.version), args.sources)
        for number, (source, wrong) in enumerate(zip(args.sources, results), 1):
            failed += report(number, f"{source} for {' '.join(archs)}", wrong)
    if args.library:
        objects = [object_of(s, out) for s in args.sources]
        wrong = ["what it is made of did not compile"] if failed else link(nvcc, args.library, objects)
        failed += report(len(args.sources) + 1, f"{args.library} is linked", wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
