#!/usr/bin/env python3
"""`make lint` finds what it must: each case plants one fault in a small clean tree and looks for its finding.

Only the checks that need Python alone are run here; `make lint` runs clang-format and cppcheck on the tree itself.
"""
import os
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

import lint as lint_module

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
CHECKS = ("includes", "shape", "binaries", "scripts")

HEADER = "/* x.\n * Owner: x. Thread: x. Errors: x. Source: x. */\n"

# (test, file to plant, its content, words of the finding or None for clean)
CASES = [
    ("lint_base_includes_worker_fails", "base/planted.c", '#include "worker/planted.h"\n', "base/ may include"),
    ("lint_base_includes_controller_fails", "base/planted.c", '#include "controller/core/core.h"\n', "base/ may include"),
    ("lint_core_includes_front_fails", "controller/core/planted.c", '#include "controller/front/planted.h"\n',
     "controller/core/ may include"),
    ("lint_core_includes_the_clock_header_fails", "controller/core/planted.c", "#include <time.h>\n",
     "<time.h>: controller/core/ may include"),
    ("lint_core_includes_sockets_fails", "controller/core/planted.c", "#include <sys/socket.h>\n", "<sys/socket.h>"),
    ("lint_core_reaches_libevent_through_base_fails", "controller/core/planted.c", '#include "base/pool.h"\n',
     "base/pool.h includes <event2/event.h>"),
    ("lint_core_reads_the_clock_fails", "controller/core/planted.c",
     '#include "base/clock.h"\nint64_t planted(void)\n{\n    return gw_clock_mono_us();\n}\n', "gw_clock_mono_us() has no place"),
    ("lint_plan_includes_libevent_fails", "controller/plan/planted.c", "#include <event2/event.h>\n",
     "controller/plan/ may include"),
    ("lint_controller_includes_worker_fails", "controller/planted.c", '#include "worker/planted.h"\n',
     "controller/ may include"),
    ("lint_controller_includes_kernels_fails", "controller/text/planted.c", '#include "kernels/op.h"\n',
     "controller/ may include"),
    ("lint_main_controller_includes_worker_fails", "controller/main_controller.c", '#include "worker/planted.h"\n',
     "main_controller.c may include"),
    ("lint_kernels_includes_migrate_fails", "kernels/planted.c", '#include "migrate/wire.h"\n', "kernels/ may include"),
    ("lint_worker_includes_controller_fails", "worker/planted.c", '#include "controller/core/core.h"\n',
     "worker/ may include"),
    ("lint_worker_includes_hiredis_fails", "worker/planted.c", "#include <hiredis/hiredis.h>\n", "worker/ may include"),
    ("lint_cloud_includes_migrate_fails", "cloud/planted.c", '#include "migrate/wire.h"\n', "cloud/ may include"),
    ("lint_migrate_includes_worker_fails", "migrate/planted.c", '#include "worker/planted.h"\n', "migrate/ may include"),
    ("lint_anyone_includes_tests_fails", "base/planted.c", '#include "tests/lib/planted.h"\n', "nothing includes tests"),
    ("lint_relative_include_fails", "base/planted.c", '#include "err.h"\n', "not a file of this tree"),
    ("lint_unknown_outside_header_fails", "base/planted.c", "#include <glib.h>\n", "not unknown ones"),
    ("lint_spaced_include_fails", "base/planted.c", '  #  include   "worker/planted.h"\n', "base/ may include"),
    ("lint_file_in_no_folder_fails", "planted.c", "#include <stdio.h>\n", "no folder of the include table"),
    ("lint_own_header_not_first_fails", "base/err.c", '#include <stdio.h>\n#include "base/err.h"\n', "comes first"),
    ("lint_alloca_fails", "base/planted.c", "void *p(int n)\n{\n    return alloca(n);\n}\n", "alloca() is banned"),
    ("lint_alloca_in_a_comment_passes", "base/planted.c", "/* alloca(n) would be wrong */\n", None),
    ("lint_long_file_fails", "base/planted.c", "int x;\n" * 601, "a file of 601 lines"),
    ("lint_long_function_fails", "base/planted.c", "void f(void)\n{\n" + "    g();\n" * 79 + "}\n", "a function of 81 lines"),
    ("lint_longest_function_passes", "base/planted.c", "void f(void)\n{\n" + "    g();\n" * 78 + "}\n", None),
    ("lint_header_without_owner_fails", "base/planted.h", HEADER.replace("Owner", "owner"), "missing: Owner:"),
    ("lint_broken_python_fails", "tests/planted.py", "def f(:\n", "SyntaxError"),
    ("lint_script_that_cannot_be_run_fails", "tests/planted.py", "#!/usr/bin/env python3\n", "is not executable"),
    ("lint_broken_shell_fails", "tests/planted.sh", "if true; then\n", "syntax error"),
    ("lint_built_program_fails", "planted", "\x7fELF\0", "a binary file"),
    ("lint_weights_outside_data_fail", "worker/planted.safetensors", "\0", "a binary file"),
    ("lint_weights_of_tests_pass", "tests/data/planted.safetensors", "\0", None),
    ("lint_allowed_includes_pass", "worker/other.c",
     '#include "base/err.h"\n#include "kernels/op.h"\n#include "migrate/wire.h"\n#include <event2/event.h>\n', None),
    ("lint_tests_include_anything_passes", "tests/unit/planted.c",
     '#include "controller/core/core.h"\n#include "kernels/op.h"\n#include <glib.h>\n', None),
]


def lint(root):
    """The findings of the checks that need nothing but Python."""
    return [line for name in CHECKS for line in lint_module.CHECKS[name](root)]


def make_lint(root):
    """(exit status, output) of the command that people type."""
    p = subprocess.run(["make", "-s", "lint", "ONLY=" + ",".join(CHECKS)], cwd=root, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    return p.returncode, p.stdout


def make_tree(root):
    """The build file, lint itself, base and the contracts: enough for `make lint` and small enough to be quick."""
    for folder in ("base", "tests/lint"):
        shutil.copytree(os.path.join(ROOT, folder), os.path.join(root, folder), ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(os.path.join(ROOT, "Makefile"), root)
    for path in ("controller/core/core.h", "migrate/grid.h", "migrate/request.h", "migrate/wire.h", "kernels/op.h"):
        os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
        shutil.copy(os.path.join(ROOT, path), os.path.join(root, path))
    for path in ("worker/planted.h", "controller/front/planted.h"):
        plant(root, path, HEADER)
    plant(root, "tests/lib/planted.h", "")


def plant(root, path, content):
    """Writes the file; returns what was there before, or None."""
    whole = os.path.join(root, path)
    os.makedirs(os.path.dirname(whole), exist_ok=True)
    old = None
    if os.path.exists(whole):
        with open(whole, encoding="utf-8") as f:
            old = f.read()
    with open(whole, "w", encoding="utf-8") as f:
        f.write(content)
    return old


def run_case(root, path, content, wanted):
    """None, or what was wrong."""
    old = plant(root, path, content)
    found = lint(root)
    if old is None:
        os.unlink(os.path.join(root, path))
    else:
        plant(root, path, old)
    if wanted is None:
        return "\n".join(found) or None
    if any(wanted in line for line in found):
        return None
    return f"no finding says '{wanted}':\n" + "\n".join(found)


def run_make_lint(root):
    """`make lint` itself: passes on the clean tree, fails with a wrong include in it."""
    status, output = make_lint(root)
    if status != 0:
        return output
    plant(root, "base/planted.c", '#include "worker/planted.h"\n')
    status, output = make_lint(root)
    os.unlink(os.path.join(root, "base/planted.c"))
    return None if status != 0 and "base/planted.c:1:" in output else f"exit status {status}:\n{output}"


def main():
    failed = 0

    def report(number, name, wrong):
        nonlocal failed
        failed += bool(wrong)
        if wrong:
            print("\n".join("# " + line for line in wrong.splitlines()))
        print(f"{'not ok' if wrong else 'ok'} {number} - {name}", flush=True)

    print(f"1..{len(CASES) + 2}")
    report(1, "lint_this_tree_passes", "\n".join(lint(ROOT)))
    with tempfile.TemporaryDirectory() as root:
        make_tree(root)
        report(2, "make_lint_fails_on_a_planted_include_alone", run_make_lint(root))
        for number, (name, *case) in enumerate(CASES, 3):
            report(number, name, run_case(root, *case))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
