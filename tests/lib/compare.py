"""Compares what clients got under churn with what they got without: records lost and duplicated, results identical."""

import dataclasses
import difflib


@dataclasses.dataclass
class Verdict:
    """Sums over many streams, all measured on the client's side."""

    requests: int = 0
    tokens: int = 0
    lost: int = 0  # records of the reference that are missing
    duplicated: int = 0  # records that the reference does not have, or has not so often
    errors: int = 0  # streams that did not end by finish_reason and [DONE]
    identical: int = 0
    max_gap_s: float = 0.0
    first_trouble: str = ""

    def good(self):
        return self.identical == self.requests and not (self.lost or self.duplicated or self.errors)

    def __str__(self):
        return (
            f"lost={self.lost} duplicated={self.duplicated} errors={self.errors} "
            f"identical={self.identical}/{self.requests}; first: {self.first_trouble}"
        )


def lost_and_extra(want, got):
    """How many items of `want` are missing in `got`, and how many of `got` are not from `want`, order kept."""
    if want == got:
        return 0, 0
    blocks = difflib.SequenceMatcher(None, want, got, autojunk=False).get_matching_blocks()
    kept = sum(b.size for b in blocks)
    return len(want) - kept, len(got) - kept


def add(verdict, name, reference, stream):
    """Adds one stream, with the undisturbed stream of the same request, to the verdict."""
    verdict.requests += 1
    verdict.tokens += stream.tokens()
    verdict.max_gap_s = max(verdict.max_gap_s, stream.longest_gap_s())
    trouble = ""
    if not stream.whole():
        verdict.errors += 1
        finishes = [c.finish for c in stream.choices.values()]
        trouble = f"not whole: error={stream.error} [DONE]={stream.ended} finish={finishes}"
    for index, choice in reference.choices.items():
        other = stream.choices[index].records if index in stream.choices else []
        lost, extra = lost_and_extra(choice.records, other)
        verdict.lost += lost
        verdict.duplicated += extra
    if stream.result() == reference.result():
        verdict.identical += 1
    else:
        trouble = trouble or difference(reference.result(), stream.result())
    if trouble and not verdict.first_trouble:
        verdict.first_trouble = f"{name}: {trouble}"


def difference(want, got):
    """The first thing in which two results differ, in words."""
    if want["usage"] != got["usage"]:
        return f"usage {got['usage']}, without churn {want['usage']}"
    for w, g in zip(want["choices"], got["choices"]):
        for i, (a, b) in enumerate(zip(w[2], g[2])):
            if a != b:
                return f"choice {w[0]}, record {i}: {b}, without churn {a}"
        if len(w[2]) != len(g[2]):
            return f"choice {w[0]}: {len(g[2])} records, without churn {len(w[2])}"
        if w[1] != g[1]:
            at = next((i for i, (a, b) in enumerate(zip(w[1], g[1])) if a != b), min(len(w[1]), len(g[1])))
            near = slice(max(0, at - 20), at + 20)
            return f"choice {w[0]}, character {at}: …{g[1][near]!r}, without churn …{w[1][near]!r}"
        if w[3] != g[3]:
            return f"choice {w[0]}: finish_reason {g[3]}, without churn {w[3]}"
    return "other choices"


def judge(references, streams):
    """Verdict over {name: stream}; `references` maps the same names to the undisturbed streams."""
    verdict = Verdict()
    for name, stream in streams.items():
        add(verdict, name, references[name], stream)
    return verdict
