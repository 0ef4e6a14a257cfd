# SPDX-License-Identifier: Apache-2.0
"""How benchmarks in Python report: bench.h in C says what the fields mean; this is the same."""
import json
import sys


class Bench:
    def __init__(self, as_json):
        self.json, self.rows, self.missed, self.wrong = as_json, 0, 0, 0

    def add(self, name, unit, measured, peer=None, floor=None, goal=None, less_is_better=False, most=None):
        reference = peer or floor
        ratio = measured / reference if reference and measured else None
        ok = None
        if goal:
            ok = ratio is not None and (ratio <= goal if less_is_better else ratio >= goal)
            self.missed += not ok
        elif most:
            goal, ok = most, measured <= most
            self.missed += not ok
        self._print({"name": name, "unit": unit, "measured": measured, "peer": peer, "floor": floor, "ratio": ratio,
                     "against": ("peer" if peer else "floor") if ratio else None, "goal": goal, "ok": ok},
                    "  MISSED" if ok is False else "")

    def answers(self, name, checked, wrong):
        self.wrong += wrong > 0
        self._print({"name": name, "unit": "right answers", "measured": checked - wrong, "peer": None, "floor": None,
                     "ratio": None, "against": None, "goal": None, "ok": wrong == 0}, "  SOME ARE WRONG" if wrong else "")

    def heading(self):
        return "%-36s %-14s %9s %9s %9s %7s %6s" % ("name", "unit", "measured", "peer", "floor", "ratio", "goal")

    def line(self, row):
        cells = [(row["measured"], 9), (row["peer"], 9), (row["floor"], 9), (row["ratio"], 7), (row["goal"], 6)]
        return "%-36s %-14s" % (row["name"], row["unit"]) + "".join(
            " %*s" % (width, "-" if value is None else "%d" % value if isinstance(value, int) else "%.4g" % value)
            for value, width in cells)

    def _print(self, row, words):
        if self.json:
            print(json.dumps({k: float("%.6g" % v) if isinstance(v, float) else v for k, v in row.items()},
                             separators=(",", ":")))
        else:
            if self.rows == 0:
                print(self.heading())
            print(self.line(row) + words)
        sys.stdout.flush()
        self.rows += 1

    def end(self):
        """The exit code: 1 when an answer was wrong."""
        if self.missed and not self.json:
            print("%d of %d rows miss their goal" % (self.missed, self.rows))
        return 1 if self.wrong else 0
