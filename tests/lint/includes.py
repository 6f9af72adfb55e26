"""Which folder may include what: the table of the house rules, as code. An arrow that is not listed is an error.

A file belongs to the longest prefix below that fits its path. `ours` are the project's folders (or single headers)
that it may name, `outside` the families of headers from elsewhere. The two sans-I/O folders are also checked through
everything that their includes include, and for the few functions that would let a clock or chance in.
"""
import re

import tree

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')

# Header families. First match wins; what none of them knows is an error for everyone but tests.
OUTSIDE = [
    ("pure", r"(assert|ctype|float|inttypes|limits|math|stdalign|stdarg|stdbool|stddef|stdint|stdio|stdlib|string)\.h"),
    ("simd", r"(immintrin|x86intrin|cpuid)\.h"),
    ("libevent", r"event2/.*"),
    ("cjson", r"cjson/.*"),
    ("openssl", r"openssl/.*"),
    ("curl", r"curl/.*"),
    ("expat", r"expat\.h"),
    ("hiredis", r"hiredis/.*"),
    ("pcre2", r"pcre2(posix)?\.h"),
    ("utf8proc", r"utf8proc\.h"),
    ("cuda", r"(cuda|cublas|nccl|cooperative_groups|mma).*"),
    ("libc", r"(arpa|linux|net|netinet|sys)/.*|(dirent|dlfcn|elf|endian|errno|fcntl|fenv|fnmatch|ftw|getopt|glob|grp|ifaddrs"
             r"|libgen|locale|malloc|netdb|poll|pthread|pwd|sched|search|semaphore|setjmp|signal|spawn|stdatomic|strings"
             r"|syslog|termios|threads|time|ucontext|unistd|wchar|wctype)\.h"),
]

# The messages and plan data of migrate: what the sans-I/O folders may see of it.
MESSAGES = ["migrate/request.h", "migrate/wire.h", "migrate/profile.h", "migrate/plan.h"]

LIBC = ["pure", "libc"]

# prefix: (ours, outside)
RULES = {
    "base/": (["base/"], LIBC + ["libevent", "cjson", "openssl"]),
    "kernels/": (["base/", "kernels/"], LIBC + ["simd", "cuda"]),
    # libevent: requests and timers are on the program's loop. expat: AWS answers in XML.
    "cloud/": (["base/", "cloud/"], LIBC + ["curl", "libevent", "expat"]),
    # libevent: frames are taken from and put into its buffers (base/frame.h). openssl: pages are AES-256-GCM.
    # simd: checksums of pages.
    "migrate/": (["base/", "migrate/"], LIBC + ["hiredis", "libevent", "openssl", "simd"]),
    "worker/": (["base/", "kernels/", "migrate/", "worker/"], LIBC + ["libevent"]),
    "controller/core/": (["base/", "controller/core/"] + MESSAGES, ["pure"]),
    "controller/plan/": (["base/", "controller/plan/"] + MESSAGES, ["pure"]),
    "controller/": (["base/", "cloud/", "controller/", "migrate/"], LIBC + ["libevent", "cjson", "pcre2", "utf8proc"]),
    # Programs: what they wire together.
    "controller/main_controller.c": (["base/", "cloud/", "controller/", "migrate/"], LIBC + ["libevent", "cjson", "openssl"]),
    "controller/cli/main_godwit.c": (["base/", "cloud/", "controller/", "migrate/"], LIBC + ["libevent", "cjson"]),
    "cloud/main_watch.c": (["base/", "cloud/", "migrate/"], LIBC + ["libevent", "curl"]),
    "worker/main_worker.c": (["base/", "kernels/", "migrate/", "worker/"], LIBC + ["libevent", "openssl"]),
}
ANYTHING = ("tests/",)

SANS_IO = ("controller/core/", "controller/plan/")
# base's headers reach libevent, cJSON and files; these are the ones that stay pure all the way down.
SANS_IO_CALLS = re.compile(r"\b(gw_clock_mono\w*|gw_clock_unix_s|gw_random_bytes|gw_file_\w+|clock_gettime|gettimeofday"
                           r"|time|rand|random|getrandom|srand|fopen|fread|fwrite|printf|puts|getenv)\s*\(")


def rule_of(path):
    prefix = max((p for p in RULES if path.startswith(p)), key=len, default=None)
    return prefix, RULES.get(prefix)


def family_of(header):
    return next((name for name, pattern in OUTSIDE if re.fullmatch(pattern, header)), None)


def includes(text):
    """(line number, header, is it ours?) of each #include."""
    for number, line in enumerate(text, 1):
        m = INCLUDE.match(line)
        if m:
            yield number, m[1] or m[2], m[1] is not None


def check_arrow(path, header, ours, known):
    """None, or what is wrong with path including header."""
    prefix, rule = rule_of(path)
    if not rule:
        return f"no folder of the include table holds this file ({', '.join(sorted(RULES))})"
    if ours:
        if header not in known:
            return f'"{header}": not a file of this tree; the project\'s headers are named from its root, others in <>'
        if header.startswith("tests/"):
            return f'"{header}": nothing includes tests'
        if not any(header == allowed or (allowed.endswith("/") and header.startswith(allowed)) for allowed in rule[0]):
            return f'"{header}": {prefix} may include {" ".join(rule[0])} of ours, nothing else'
        return None
    family = family_of(header)
    if family not in rule[1]:
        return f"<{header}>: {prefix} may include {' '.join(rule[1])} headers from outside, not {family or 'unknown'} ones"
    return None


def check_order(path, text, known):
    """A module's own header comes first, so that it is seen to stand alone."""
    own = path[:-2] + ".h"
    inner = (path[:-2] + "_internal.h", path[:-2] + "_impl.h")  # what a module of several sources shares
    first = next(includes(text), None)
    if path.endswith(".c") and own in known and first and first[1] not in (own, *inner):
        return [tree.finding(path, first[0], f'"{own}" comes first in its own source')]
    return []


def check_reach(path, contents):
    """Sans-I/O: no header reached from path, through any number of ours, may be of an I/O family."""
    found, seen, todo = [], set(), [(n, h, [path]) for n, h, ours in includes(contents[path]) if ours]
    while todo:
        number, header, way = todo.pop()
        if header in seen or header not in contents:
            continue
        seen.add(header)
        for _, inner, ours in includes(contents[header]):
            if ours:
                todo.append((number, inner, way + [header]))
            elif family_of(inner) != "pure":
                chain = " -> ".join((way + [header])[1:])
                found.append(tree.finding(path, number, f"sans-I/O, but {chain} includes <{inner}>"))
    return found


def check_calls(path, text):
    found = []
    for number, line in enumerate(text, 1):
        m = SANS_IO_CALLS.search(line)
        if m and not line.lstrip().startswith(("*", "/*")):
            found.append(tree.finding(path, number, f"sans-I/O: {m[1]}() has no place here"))
    return found


def check(root):
    paths = [p for p in tree.tracked(root) if tree.is_c(p)]
    contents = {p: tree.lines(root, p) for p in paths}
    found = []
    for path, text in contents.items():
        if path.startswith(ANYTHING):
            continue
        for number, header, ours in includes(text):
            wrong = check_arrow(path, header, ours, contents)
            if wrong:
                found.append(tree.finding(path, number, wrong))
        found += check_order(path, text, contents)
        if path.startswith(SANS_IO):
            found += check_reach(path, contents) + check_calls(path, text)
    return found
