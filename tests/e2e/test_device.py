#!/usr/bin/env python3
"""godwit-worker --device and --numa-node: what it says, and its exit status, where a GPU or a node cannot be used.

A worker without the library beside it, with what is no library, with one of another build, and with the library on a machine without
a driver. One line each, which says what is needed; exit status 20. Runs from the repository's root; prints TAP."""
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import tap  # noqa: E402
from tap import check, check_equal  # noqa: E402

WORKER = "build/release/godwit-worker"
LIBRARY = "build/cuda/libgodwit-cuda.so"
NO_DEVICE, WRONG = 20, 1
LIMIT_S = 60


@contextlib.contextmanager
def alone():
    """A folder with the worker and nothing else."""
    with tempfile.TemporaryDirectory(prefix="godwit-device-") as folder:
        shutil.copy(WORKER, folder)
        yield folder


def run(folder, *flags):
    """Exit status and what it says on stderr, line by line."""
    p = subprocess.run([os.path.join(folder, "godwit-worker"), *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       timeout=LIMIT_S, cwd=folder, env={**os.environ, "LD_LIBRARY_PATH": ""})
    return p.returncode, p.stderr.splitlines()


def expect_refused(folder, *words):
    status, lines = run(folder, "--digest", "--device", "cuda:0")
    check_equal((status, len(lines)), (NO_DEVICE, 1), f"status, lines ({lines})")
    for word in ("--device cuda:0", *words):
        check(word in lines[0], f"{word!r} is not in {lines[0]!r}")


def compile_library(folder, text):
    source = os.path.join(folder, "other.c")
    with open(source, "w", encoding="utf-8") as f:
        f.write(text)
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", os.path.join(folder, "libgodwit-cuda.so")], check=True)


def test_gpu_without_the_library_says_how_to_make_it(_):
    with alone() as folder:
        expect_refused(folder, "libgodwit-cuda.so", "make cuda")


def test_gpu_with_some_other_library_says_so(_):
    with alone() as folder:
        compile_library(folder, "int answer(void) { return 42; }\n")
        expect_refused(folder, "no library of godwit's")


def test_gpu_with_a_library_of_another_build_names_both(_):
    with alone() as folder:
        compile_library(folder, 'const struct { const char *version; } gw_cuda_library = {"0.0.0"};\n')
        expect_refused(folder, "version 0.0.0", "one build")


def test_gpu_without_a_driver_says_which_is_needed(_):
    if not os.path.exists(LIBRARY):
        raise tap.Skip("no library: tests/lib/cuda_build.py found no nvcc")
    if os.path.exists("/dev/nvidiactl"):
        raise tap.Skip("there is a driver")
    with alone() as folder:
        shutil.copy(LIBRARY, folder)
        if "one build" in run(folder, "--digest", "--device", "cuda:0")[1][0]:
            raise tap.Skip("library and worker are of two builds")
        expect_refused(folder, "driver of NVIDIA for CUDA", "is needed")


def test_device_with_wrong_flags_says_what_is_expected(_):
    with alone() as folder:
        for flags, word in ((["gpu"], "expected cpu, or cuda:N"), (["cuda:"], "expected"), (["cuda:0x"], "expected"),
                            (["cuda:1234"], "expected"), (["cuda:0", "--kv", "fp8"], "expected file or int8"), (["cuda:0", "--isa", "c"], "--isa"),
                            (["cuda:0", "--profile", "cpu-f32-2"], "exact or fast")):
            status, lines = run(folder, "--digest", "--device", *flags)
            check_equal(status, WRONG, f"status of {flags}")
            check(word in lines[0], f"{word!r} is not in {lines[0]!r}")


def flags_to_serve(folder, model):
    key = os.path.join(folder, "key")
    with open(key, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
        f.write("a cluster key of thirty-two bytes\n")
    return ["--model", os.path.abspath(model), "--cluster-key-file", key, "--controller", "127.0.0.1:1"]


def test_gpu_with_a_model_of_f32_lacks_nothing_but_the_gpu(_):
    with alone() as folder:
        model = shutil.copytree("tests/data/tiny/mha64", os.path.join(folder, "model"))
        for flags in ([], ["--weights", "int8"], ["--profile", "fast"], ["--profile", "fast", "--weights", "int8"]):
            status, lines = run(folder, *flags_to_serve(folder, model), "--device", "cuda:0", *flags)
            check_equal((status, len(lines)), (NO_DEVICE, 1), f"status, lines with {flags} ({lines})")
            check("libgodwit-cuda.so" in lines[0], lines[0])


def run_up(*flags):
    """`godwit up`, which must end by itself."""
    with tempfile.TemporaryDirectory(prefix="godwit-device-") as folder:
        p = subprocess.run(["build/release/godwit", "up", "--model", "tests/models/tattler-3m", "--workers", "1", "--port", "0",
                            "--admin-port", "0", "--worker-port", "0", "--log-dir", folder, *flags], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
    return p.returncode, p.stderr


def test_up_with_wrong_flags_of_a_gpu_says_what_is_expected(_):
    for flags, word in ((["--device", "gpu"], "expected cpu, or cuda:N"), (["--profile", "fast"], "--device cuda:N"),
                        (["--device", "cuda:0", "--profile", "cpu-f32-2"], "exact or fast"),
                        (["--cuda-graphs", "on"], "--device cuda:N"), (["--device", "cuda:0", "--cuda-graphs", "1"], "on or off")):
        status, text = run_up(*flags)
        check(status != 0 and word in text and flags[-2] in text, f"{flags}: status {status}, {text!r}")


def test_up_without_a_gpu_says_what_the_worker_lacks_at_once(_):
    if os.path.exists("/dev/nvidiactl"):
        raise tap.Skip("there is a driver")
    status, text = run_up("--device", "cuda:0", "--profile", "exact", "--cuda-graphs", "off")
    check_equal(status, 1, "status")
    for word in ("worker w0", "exit status 20", "--device cuda:0"):
        check(word in text, f"{word!r} is not in {text!r}")


def test_numa_node_that_is_not_there_is_named_with_those_that_are(_):
    if not os.path.exists("/sys/devices/system/node/has_cpu"):
        raise tap.Skip("this kernel names no NUMA nodes")
    with alone() as folder:
        status, lines = run(folder, *flags_to_serve(folder, "tests/models/tattler-3m"), "--numa-node", "1023")
        check_equal((status, len(lines)), (WRONG, 1), f"status, lines ({lines})")
        check("--numa-node 1023: there is no NUMA node 1023 with cores; there is 0" in lines[0], lines[0])


if __name__ == "__main__":
    sys.exit(tap.main(__doc__, [test_gpu_without_the_library_says_how_to_make_it, test_gpu_with_some_other_library_says_so,
                                test_gpu_with_a_library_of_another_build_names_both,
                                test_gpu_without_a_driver_says_which_is_needed,
                                test_gpu_with_a_model_of_f32_lacks_nothing_but_the_gpu,
                                test_device_with_wrong_flags_says_what_is_expected,
                                test_up_with_wrong_flags_of_a_gpu_says_what_is_expected,
                                test_up_without_a_gpu_says_what_the_worker_lacks_at_once,
                                test_numa_node_that_is_not_there_is_named_with_those_that_are]))
