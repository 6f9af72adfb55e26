"""The table provider × scenario × result: made from what a test program ran, and kept in cloud/SCENARIOS.md.

    TABLE = scenarios.Table("Notices")

    @TABLE.row("aws", "a token dies early", "a new one is asked for")
    def test_x(ctx): ...

    def test_y(ctx):
        for cloud in CLOUDS:
            ...
            TABLE.ran(cloud, "the clock is an hour off", "the same deadline")

    tap.main(..., arguments=scenarios.arguments, setup=TABLE.around(setup))

When all tests have run, each section of the file that a program's table has the title of must say what has just been run, no
more and no less; `--write-table` writes it. Rows of skipped tests count as run.
"""

import contextlib
import functools
import os
import re
import threading

import tap

PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "cloud", "SCENARIOS.md")
CLOUDS = ("aws", "gcp", "azure", "sim")


def arguments(ap):
    ap.add_argument("--write-table", action="store_true", help="write what was run into cloud/SCENARIOS.md")


def read_section(title):
    """(text before, the section, text behind)"""
    with open(PATH) as f:
        text = f.read()
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", text, re.M | re.S)
    if not found:
        raise AssertionError(f"cloud/SCENARIOS.md has no section '{title}'")
    return text[: found.start()], found[0], text[found.end() :]


def cells_of(section):
    """{(cloud, scenario): result} of a section's table."""
    lines = [line.strip("| \n").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    head, *rows = [row for row in lines if not row[0].startswith("---")]
    return {(cloud, row[0]): cell for row in rows for cloud, cell in zip(head[1:], row[1:]) if cell != "–"}


class Table:
    def __init__(self, title):
        self.title, self._cells, self._skipped, self._lock = title, {}, set(), threading.Lock()

    def ran(self, cloud, scenario, result):
        """This scenario has just given that result: what was checked, in words without numbers that differ by run."""
        with self._lock:
            self._cells[cloud, scenario] = result

    def row(self, clouds, scenario, result):
        """Marks a test: when it has passed, the scenario has been run for these clouds (names with blanks between)."""

        def mark(test):
            @functools.wraps(test)
            def run(ctx):
                try:
                    test(ctx)
                except tap.Skip:
                    self._skipped |= {(cloud, scenario) for cloud in clouds.split()}
                    raise
                for cloud in clouds.split():
                    self.ran(cloud, scenario, result)

            return run

        return mark

    def text(self):
        clouds = [c for c in CLOUDS if any(c == cloud for cloud, _ in self._cells)]
        scenarios = sorted({scenario for _, scenario in self._cells})
        rows = [["scenario", *clouds], ["---"] * (len(clouds) + 1)]
        rows += [[s, *(self._cells.get((c, s), "–") for c in clouds)] for s in scenarios]
        return "".join("| " + " | ".join(row) + " |\n" for row in rows)

    def write(self):
        before, section, behind = read_section(self.title)
        intro = section.split("\n| ", 1)[0].rstrip("\n")
        with open(PATH, "w") as f:
            f.write(before + intro + "\n\n" + self.text() + ("\n" if behind else "") + behind)

    def check(self, everything):
        """everything: all tests have run, so that the file may say nothing else."""
        told = cells_of(read_section(self.title)[1])
        wrong = [f"{key} gave '{result}', not '{told.get(key)}'" for key, result in self._cells.items() if told.get(key) != result]
        if everything:
            wrong += [f"{key} was not run" for key in told if key not in self._cells and key not in self._skipped]
        tap.check(not wrong, f"cloud/SCENARIOS.md, '{self.title}' (--write-table writes it): " + "; ".join(wrong))

    def around(self, setup=None):
        """The setup of tap.main: after the tests the table is looked at."""

        @contextlib.contextmanager
        def run(args):
            with setup(args) if setup else contextlib.nullcontext(args) as ctx:
                yield ctx
            if args.write_table:
                tap.check(not args.only, "--write-table needs all tests")
                self.write()
            self.check(everything=not args.only)
            tap.note(f"{len(self._cells)} scenarios × providers as cloud/SCENARIOS.md has them")

        return run


if __name__ == "__main__":
    raise SystemExit("a library: see tests/e2e")
