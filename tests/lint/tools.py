"""What other programs know better: clang-format, cppcheck, and the parsers of our scripts."""
import ast
import concurrent.futures
import os
import subprocess

import tree

CPPCHECK = ["cppcheck", "-j2", "--quiet", "--error-exitcode=1", "--inline-suppr", "--std=c11", "--language=c",
            "--enable=warning,portability,performance", "--library=posix", "-D_GNU_SOURCE", "-DGW_VERSION=\"lint\"",
            "--include=tests/lint/cppcheck_macros.h",
            "--suppressions-list=tests/lint/cppcheck.txt", "--cppcheck-build-dir=build/cppcheck", "-I."]
FORMAT_BATCH = 20


def run(argv, root):
    """Findings of one tool: its output, if it failed. A tool that is not there is a finding too."""
    try:
        p = subprocess.run(argv, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    except FileNotFoundError:
        return [f"{argv[0]}: not installed (.ci/deps lint installs it)"]
    return p.stdout.splitlines() or [f"{argv[0]}: exit status {p.returncode}"] if p.returncode else []


def check_format(root):
    paths = [p for p in tree.tracked(root) if tree.is_c(p)]
    batches = [paths[i:i + FORMAT_BATCH] for i in range(0, len(paths), FORMAT_BATCH)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda batch: run(["clang-format", "--dry-run", "-Werror"] + batch, root), batches)
    return [line for result in results for line in result]


def check_cppcheck(root):
    os.makedirs(os.path.join(root, "build/cppcheck"), exist_ok=True)
    """The programs' sources: tests have the sanitizers for what a static look would find, and their own idioms."""
    return run(CPPCHECK + [p for p in tree.tracked(root) if p.endswith(".c") and not p.startswith("tests/")], root)


def interpreter(root, path):
    with open(os.path.join(root, path), "rb") as f:
        first = f.readline(100)
    if path.endswith(".py") or (first.startswith(b"#!") and b"python" in first):
        return "python"
    if path.endswith(".sh") or (first.startswith(b"#!") and b"sh" in first):
        return "shell"
    return None


def parse_python(root, path):
    try:
        ast.parse("\n".join(tree.lines(root, path)), path)
    except SyntaxError as e:
        return [tree.finding(path, e.lineno or 1, f"SyntaxError: {e.msg}")]
    return []


def not_executable(root, path):
    """A finding for a file that names its interpreter and cannot be run."""
    with open(os.path.join(root, path), "rb") as f:
        runs = f.read(2) == b"#!"
    if runs and not path.endswith(".tftpl") and not os.access(os.path.join(root, path), os.X_OK):
        return [tree.finding(path, 1, "begins with #! and is not executable")]
    return []


def check_scripts(root):
    found = []
    for path in tree.tracked(root):
        kind = interpreter(root, path)
        if kind:
            found += not_executable(root, path)
        if kind == "shell":
            found += run(["bash", "-n", path], root)
        elif kind == "python":
            found += parse_python(root, path)
    return found
