"""Shape of the C sources: file and function length, banned words, what a public header says of itself."""
import re

import tree

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 80
# Unbounded stack, unbounded copies, and text-to-number calls that cannot report an error.
BANNED = re.compile(r"\b(alloca|__builtin_alloca|gets|strcpy|strcat|sprintf|vsprintf|atoi|atol|atof|strtok)\s*\(")
HEADER_WORDS = ("Owner:", "Thread:", "Errors:", "Source:")
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)


def code_only(text):
    """The lines with comments and strings blanked out, line numbers kept."""
    whole = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), "\n".join(text))
    return whole.split("\n")


def long_functions(path, text):
    """clang-format puts a function's braces, and nothing else's, alone in the first column."""
    found, start = [], None
    for number, line in enumerate(text, 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            if number - start + 1 > FUNCTION_LINES_MAX:
                found.append(tree.finding(path, start, f"a function of {number - start + 1} lines, at most "
                                                       f"{FUNCTION_LINES_MAX}"))
            start = None
    return found


def header_form(path, text):
    head = "\n".join(text[:80])
    missing = [w for w in HEADER_WORDS if w not in head]
    if path.endswith("_internal.h") or not missing:
        return []
    return [tree.finding(path, 1, f"a public header says {' '.join(HEADER_WORDS)}; missing: {' '.join(missing)}")]


def check(root):
    found = []
    for path in filter(tree.is_c, tree.tracked(root)):
        text = tree.lines(root, path)
        if len(text) > FILE_LINES_MAX:
            found.append(tree.finding(path, len(text), f"a file of {len(text)} lines, at most {FILE_LINES_MAX}"))
        found += long_functions(path, text)
        for number, line in enumerate([] if path.startswith("tests/") else code_only(text), 1):
            m = BANNED.search(line)
            if m:
                found.append(tree.finding(path, number, f"{m[1]}() is banned: no bound, or no way to fail"))
        if path.endswith(".h") and not path.startswith("tests/"):
            found += header_form(path, text)
    return found
