"""The files that lint looks at, and how a finding is written down."""
import os
import subprocess

SKIPPED_DIRS = {"build", ".git", "__pycache__"}


def tracked(root):
    """Paths under root, relative and sorted: git's list where root is a working tree, else every file in it."""
    git = subprocess.run(["git", "-C", root, "rev-parse", "--show-toplevel"], capture_output=True, text=True)
    if git.returncode == 0 and os.path.realpath(git.stdout.strip()) == os.path.realpath(root):
        out = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
        paths = [p for p in out.split("\0") if p and os.path.isfile(os.path.join(root, p))]
    else:
        paths = []
        for folder, dirs, files in os.walk(root):
            dirs[:] = [d for d in dirs if d not in SKIPPED_DIRS]
            paths += [os.path.relpath(os.path.join(folder, f), root) for f in files]
    return sorted(paths)


def lines(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read().splitlines()


def is_c(path):
    return path.endswith((".c", ".h", ".cu", ".cuh"))


def finding(path, line, text):
    return f"{path}:{line}: {text}"
