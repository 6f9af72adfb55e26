"""The demo's live view: texts as they grow on the left, the timeline on the right, the workers in a line below.

Draws whole frames with ANSI sequences on the terminal's alternate screen, at the size that the terminal has at that
moment, and gives the terminal back as it was, whatever ends the program.
"""

import os
import shutil
import textwrap

RESET, BOLD, DIM = "\x1b[0m", "\x1b[1m", "\x1b[2m"
COLORS = {"good": "\x1b[32m", "bad": "\x1b[31m", "warn": "\x1b[33m", "info": "\x1b[36m", "": ""}
MIN_COLUMNS, MIN_ROWS = 40, 12


def plain(text):
    """Text in one line without anything that a terminal would obey, or that is wider than one column."""
    return "".join(c if " " <= c < "\x7f" or "\xa0" < c < "\u1100" else " " for c in " ".join(text.split()))


def cell(text, width):
    """Exactly `width` columns."""
    text = plain(text)
    return text[: width - 1] + "…" if len(text) > width else text.ljust(width)


class Screen:
    """Owns the terminal between enter and exit. draw() takes plain data only."""

    def __init__(self, out):
        self.out, self.color = out, "NO_COLOR" not in os.environ

    def __enter__(self):
        self.out.write("\x1b[?1049h\x1b[?25l\x1b[2J")
        self.out.flush()
        return self

    def __exit__(self, *exc):
        self.out.write(f"{RESET}\x1b[?25h\x1b[?1049l")
        self.out.flush()

    def paint(self, kind, text):
        return f"{COLORS[kind]}{text}{RESET}" if self.color and COLORS[kind] else text

    def draw(self, title, panes, timeline, workers, status):
        """panes: [(heading, text)]; timeline: [(seconds, kind, text)]; workers: [(kind, text)]; status: a line."""
        columns, rows = shutil.get_terminal_size((100, 30))
        columns, rows = max(columns, MIN_COLUMNS), max(rows, MIN_ROWS)
        right = min(max(columns * 2 // 5, 18), 56)
        left, height = columns - right - 3, rows - 4
        texts, events = self._panes(panes, left, height), self._timeline(timeline, right, height)
        lines = [f"{BOLD}{cell(title, columns)}{RESET}", "─" * (left + 1) + "┬" + "─" * (right + 1)]
        lines += [f"{a} │ {b}" for a, b in zip(texts, events)]
        lines += ["─" * (left + 1) + "┴" + "─" * (right + 1), self._workers(workers, status, columns)]
        self.out.write("\x1b[H" + "\r\n".join(line + "\x1b[K" for line in lines) + "\x1b[J")
        self.out.flush()

    def _panes(self, panes, width, height):
        """The last lines of each text, under its heading; all lines are `width` wide."""
        lines = []
        for k, (heading, text) in enumerate(panes):
            share = (height - len(lines)) // (len(panes) - k)
            wrapped = textwrap.wrap(plain(text), width) or [""]
            lines.append(f"{DIM}{cell(heading, width)}{RESET}")
            lines += [cell(t, width) for t in wrapped[-max(share - 2, 1) :]]
            lines += [" " * width] * (share - 1 - min(len(wrapped), max(share - 2, 1)))
        return (lines + [" " * width] * height)[:height]

    def _timeline(self, timeline, width, height):
        """The newest events that fit, oldest first."""
        lines = []
        for seconds, kind, text in timeline[-height:]:
            wrapped = textwrap.wrap(plain(text), max(width - 7, 8)) or [""]
            lines.append(f"{DIM}{seconds:5.1f}{RESET}  " + self.paint(kind, cell(wrapped[0], width - 7)))
            lines += [" " * 7 + self.paint(kind, cell(t, width - 7)) for t in wrapped[1:]]
        lines = lines[-height:]
        return lines + [" " * width] * (height - len(lines))

    def _workers(self, workers, status, columns):
        """Workers as far as they fit, and the status at the right."""
        room, parts = columns - len(status) - 2, []
        for kind, text in workers:
            if room < len(text) + 3:
                break
            parts.append(self.paint(kind, text))
            room -= len(text) + 3
        return " " + " │ ".join(parts) + " " * max(room, 0) + status
