#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Device models: modelled memory time, energy and wear from counted traffic.

    tools/hybridmem_models.py                     the table of models
    tools/hybridmem_models.py --json              the same for programs
    tools/hybridmem_models.py --account COUNTS    what counts would have cost

COUNTS is a file (- for stdin) of JSON:

    { "seconds": 1.5, "instructions": 1000000,
      "ranges": { "nvm": { "fills": 100, "writebacks": 20, "bytes": 469762048 },
                  "dram": { ... } },
      "models": { "nvm": "optane", "dram": "dram" },
      "computing": 1.0, "baseline": { "dram": { "fills": ... } } }

The last two may be missing; docs/models.md tells of them, and of a range with
"memory-mode".

As a module: load(), account(), account_ranges(), over_dram().  The values stand in
hw/hybridmem/device-models.toml, the formulas in include/hw/hybridmem/model.h;
docs/models.md tells of both.  The build makes the engine's table with --emit-c.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import re
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Iterator, Mapping

PRESETS = (Path(__file__).resolve().parents[1]
           / "hw" / "hybridmem" / "device-models.toml")
LINE = 64                       # bytes
SECONDS_PER_YEAR = 365.25 * 24 * 3600

# What a miss of memory mode takes before NVM is asked: measured (Moon, Oh and
# Ahn, Journal of KIISE 47(10), 2020: about 70 ns).  Others: a read of DRAM.
LEAST_TAG_CHECK_NS = 70

# What a model may say, with the range in which a value is no slip of units.
KEYS = {
    "read-latency-ns": (1, 1e6),
    "write-latency-ns": (1, 1e6),
    "read-bandwidth-gb-s": (1e-3, 1e5),
    "write-bandwidth-gb-s": (1e-3, 1e5),
    "read-energy-nj-b": (1e-4, 1e5),
    "write-energy-nj-b": (1e-4, 1e5),
    "idle-power-w-gb": (0, 1e2),
    "endurance-writes": (1e3, 1e20),
    "write-granularity-b": (LINE, 1 << 20),
}


class ModelError(Exception):
    """Something in the file of models, or in counts, is wrong."""


@dataclass(frozen=True)
class Range:
    """A value or result where sources differ."""
    low: float
    typical: float
    high: float

    def __iter__(self) -> Iterator[float]:
        return iter((self.low, self.typical, self.high))

    def scale(self, factor: float) -> Range:
        """Each times `factor`."""
        return Range(*(value * factor for value in self))

    def under(self, amount: float) -> Range:
        """`amount` divided by each: the highest makes the lowest result."""
        return Range(amount / self.high, amount / self.typical,
                     amount / self.low)

    def plus(self, other: Range) -> Range:
        """Both together."""
        return Range(self.low + other.low, self.typical + other.typical,
                     self.high + other.high)


@dataclass(frozen=True)
class Model:
    """One kind of memory."""
    name: str
    title: str
    reference: bool
    values: Mapping[str, Range]
    sources: Mapping[str, str]

    def get(self, key: str) -> Range | None:
        """A value; None if no source gives it."""
        return self.values.get(key)


# --- reading and checking ---------------------------------------------------


def read_value(model: str, key: str, raw: Any) -> tuple[Range, str]:
    """One value and its source; refuses what cannot be meant."""
    where = f"{model}.{key}"
    if key not in KEYS:
        raise ModelError(f"{where}: no such value; one of {', '.join(KEYS)}")
    if not isinstance(raw, dict) or set(raw) != {"low", "typical", "high",
                                                 "source"}:
        raise ModelError(f"{where} must have low, typical, high and source,"
                         " and nothing else")
    numbers = [raw[k] for k in ("low", "typical", "high")]
    least, most = KEYS[key]
    for number in numbers:
        if (isinstance(number, bool) or not isinstance(number, (int, float))
                or not least <= number <= most):
            raise ModelError(f"{where}: {number} is not a number from {least}"
                             f" to {most}; is the unit right?")
    if sorted(numbers) != numbers:
        raise ModelError(f"{where}: it must be low <= typical <= high")
    if not isinstance(raw["source"], str) or not raw["source"].strip():
        raise ModelError(f"{where}: the source is missing")
    return Range(*map(float, numbers)), raw["source"]


def read_model(name: str, raw: Any) -> Model:
    """One model of the file."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) \
            or name == "none":
        raise ModelError(f"'{name}' cannot be a model's name: small letters,"
                         " digits, single dashes between them; not none")
    if not isinstance(raw, dict) or not isinstance(raw.get("title"), str):
        raise ModelError(f"{name}: the title is missing")
    values, sources = {}, {}
    for key in raw.keys() - {"title", "reference"}:
        values[key], sources[key] = read_value(name, key, raw[key])
    return Model(name, raw["title"], raw.get("reference", False) is True,
                 {k: values[k] for k in KEYS if k in values},
                 {k: sources[k] for k in KEYS if k in sources})


def parse(text: str) -> dict[str, Model]:
    """All models of a file, by name; ModelError if one is not right."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise ModelError(str(err)) from err
    models = {name: read_model(name, raw[name]) for name in sorted(raw)}
    references = [m.name for m in models.values() if m.reference]
    if len(references) != 1:
        raise ModelError("one model must be the reference, not "
                         + (", ".join(references) or "none"))
    return models


def load(path: Path = PRESETS) -> dict[str, Model]:
    """All models, by name."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except ModelError as err:
        raise ModelError(f"{path.name}: {err}") from err


def reference(models: Mapping[str, Model]) -> Model:
    """The one that others are compared with: DRAM."""
    return next(m for m in models.values() if m.reference)


def find(models: Mapping[str, Model], name: str) -> Model:
    """By name, the reference as well."""
    if name not in models:
        raise ModelError(f"model '{name}' is not known; one of "
                         + ", ".join(sorted(models)))
    return models[name]


# --- the arithmetic: as hw/hybridmem/model.c --------------------------------


def plus(first: Range | None, second: Range | None) -> Range | None:
    """The sum, unknown if one is."""
    return None if first is None or second is None else first.plus(second)


def times(value: Range | None, factor: float) -> Range | None:
    """The product, unknown if the value is."""
    return None if value is None else value.scale(factor)


def over(amount: float, value: Range | None) -> Range | None:
    """The quotient, unknown if the value is."""
    return None if value is None else value.under(amount)


def latency(model: Model, fills: float, writebacks: float) -> Range | None:
    """Seconds if every access were waited for, one after the other."""
    reads = times(model.get("read-latency-ns"), fills * 1e-9)
    if model.get("write-latency-ns") is None:
        return reads
    return plus(reads, times(model.get("write-latency-ns"),
                             writebacks * 1e-9))


def transfer(model: Model, fills: float, writebacks: float) -> Range | None:
    """Seconds if only the bandwidth counted."""
    return plus(over(fills * LINE * 1e-9, model.get("read-bandwidth-gb-s")),
                over(writebacks * LINE * 1e-9,
                     model.get("write-bandwidth-gb-s")))


def energy(model: Model, fills: float, writebacks: float, capacity: float,
           seconds: float) -> Range | None:
    """Joules, by RAMinate's formulas."""
    moved = plus(times(model.get("read-energy-nj-b"), fills * LINE * 1e-9),
                 times(model.get("write-energy-nj-b"),
                       writebacks * LINE * 1e-9))
    return plus(moved, times(model.get("idle-power-w-gb"),
                             capacity * 1e-9 * seconds))


def wear(model: Model, written: float, capacity: float,
         whole: bool = False) -> Range | None:
    """Share of the endurance; `whole`: written in whole granules."""
    if capacity <= 0:
        return None
    share = over(written / capacity, model.get("endurance-writes"))
    granule = model.get("write-granularity-b")
    if share is None or whole or granule is None:
        return share
    return Range(share.low, share.typical, share.high * (granule.high / LINE))


def years(share: Range | None, seconds: float) -> Range | None:
    """Until worn out at this rate; None if there was no wear."""
    if share is None or share.low <= 0 or seconds <= 0:
        return None
    return share.under(seconds / SECONDS_PER_YEAR)


def check_counts(counts: Mapping[str, Any], *keys: str) -> None:
    """ModelError unless all are there and can be meant."""
    for key in keys:
        value = counts.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) \
                or not 0 <= value < math.inf:
            raise ModelError(f"counts: {key} must be a number, 0 or more")


def account(counts: Mapping[str, Any], model: Model,
            seconds: float = 0.0) -> dict[str, Range | None]:
    """What the traffic of one range would have cost on `model`.

    counts: fills and writebacks (lines of 64 bytes), bytes (of the range).
    seconds: how long it took, for idle power and years.
    Results are latency-s, transfer-s, energy-j, wear, years; None where the
    model lacks a value.
    """
    check_counts(counts, "fills", "writebacks", "bytes")
    fills, writebacks = counts["fills"], counts["writebacks"]
    share = wear(model, writebacks * LINE, counts["bytes"])
    return {
        "latency-s": latency(model, fills, writebacks),
        "transfer-s": transfer(model, fills, writebacks),
        "energy-j": energy(model, fills, writebacks, counts["bytes"],
                           seconds),
        "wear": share,
        "years": years(share, seconds),
    }


def mode_latency(mode: Mapping[str, float], dram: Model,
                 nvm: Model) -> Range | None:
    """As latency(); a fill that misses waits for its tag, then for NVM."""
    hit = dram.get("read-latency-ns")
    check = hit and Range(min(LEAST_TAG_CHECK_NS, hit.low), hit.typical,
                          hit.high)
    reads = plus(times(hit, mode["fill-hits"] * 1e-9),
                 times(check, mode["fill-misses"] * 1e-9))
    writes = latency(dram, 0, mode["writeback-hits"]
                     + mode["writeback-misses"])
    return plus(plus(reads, writes),
                latency(nvm, mode["fill-misses"], mode["nvm-writes"]))


def account_mode(counts: Mapping[str, Any], dram: Model, nvm: Model,
                 seconds: float = 0.0) -> dict[str, Range | None]:
    """As account(), of a range behind a DRAM cache.

    counts: bytes (of the range), and memory-mode: the meter's member of this
    name, with bytes (of the DRAM).
    """
    mode = counts["memory-mode"]
    if not isinstance(mode, Mapping):
        raise ModelError("counts: memory-mode must be the meter's member")
    check_counts(mode, "fill-hits", "fill-misses", "writeback-hits",
                 "writeback-misses", "nvm-reads", "nvm-writes", "dram-reads",
                 "dram-writes", "bytes")
    near = account({"fills": mode["dram-reads"], "bytes": mode["bytes"],
                    "writebacks": mode["dram-writes"]}, dram, seconds)
    far = account({"fills": mode["nvm-reads"], "bytes": counts.get("bytes"),
                   "writebacks": mode["nvm-writes"]}, nvm, seconds)
    return {"latency-s": mode_latency(mode, dram, nvm),
            "transfer-s": plus(near["transfer-s"], far["transfer-s"]),
            "energy-j": plus(near["energy-j"], far["energy-j"]),
            "wear": far["wear"], "years": far["years"]}


def account_range(counts: Mapping[str, Any], model: Model,
                  dram: Model | None, seconds: float = 0.0,
                  ) -> dict[str, Range | None]:
    """account(), or account_mode() if there is a DRAM cache."""
    if "memory-mode" not in counts:
        return account(counts, model, seconds)
    if dram is None:
        raise ModelError("memory-mode: say which model the DRAM is of")
    return account_mode(counts, dram, model, seconds)


def account_ranges(ranges: Mapping[str, Mapping[str, Any]],
                   chosen: Mapping[str, Model], seconds: float = 0.0,
                   instructions: float = 0.0,
                   dram: Model | None = None) -> dict[str, Any]:
    """The account of all ranges, each on the model chosen for it; `dram` is
    the model of DRAM caches before them.

    The total is the sum of latency-s, transfer-s and energy-j, None where it
    is None for a range; wear is of a device and has no sum.  With
    instructions, total also has the sums divided by them (per-instruction).
    """
    parts = {name: account_range(counts, chosen[name], dram, seconds)
             for name, counts in ranges.items()}
    total: dict[str, Any] = {}
    for key in ("latency-s", "transfer-s", "energy-j"):
        summed: Range | None = Range(0, 0, 0)
        for part in parts.values():
            summed = plus(summed, part[key])
        total[key] = summed
    if instructions > 0:
        total["per-instruction"] = {
            key: times(total[key], 1 / instructions)
            for key in ("latency-s", "transfer-s", "energy-j")}
    return {"ranges": parts, "total": total}


# --- compared with DRAM -----------------------------------------------------

# The results that are times, and the values that each is made of.
TIMES = {"latency-s": ("read-latency-ns", "write-latency-ns"),
         "transfer-s": ("read-bandwidth-gb-s", "write-bandwidth-gb-s")}


def pinned(model: Model, at: Mapping[tuple[str, str], int]) -> Model:
    """Each value at its lowest (0), typical (1) or highest (2): at[name of
    the model, key]; typical if that does not say."""
    return replace(model, values={
        key: Range(*[tuple(value)[at.get((model.name, key), 1)]] * 3)
        for key, value in model.values.items()})


def corners(models: Mapping[str, Model], keys: tuple[str, ...],
            ) -> Iterator[dict[str, Model]]:
    """All ways to have each value of `keys` at its lowest or highest."""
    free = [(name, key) for name, model in models.items() for key in keys
            if model.get(key)]
    for choice in itertools.product((0, 2), repeat=len(free)):
        at = dict(zip(free, choice))
        yield {name: pinned(model, at) for name, model in models.items()}


def all_dram(ranges: Mapping[str, Mapping[str, Any]],
             ) -> dict[str, dict[str, Any]]:
    """The same traffic of the CPU's caches, without a DRAM cache."""
    return {name: {k: v for k, v in counts.items() if k != "memory-mode"}
            for name, counts in ranges.items()}


def total_time(ranges: Mapping[str, Mapping[str, Any]],
               chosen: Mapping[str, Model], dram: Model, key: str,
               computing: float) -> Range | None:
    """Seconds, with `computing` that memory has no part in."""
    found: Range | None = Range(computing, computing, computing)
    for name, counts in ranges.items():
        found = plus(found, account_range(counts, chosen[name], dram)[key])
    return found


def over_dram(ranges: Mapping[str, Mapping[str, Any]],
              chosen: Mapping[str, Model], dram: Model,
              computing: float = 0.0,
              baseline: Mapping[str, Mapping[str, Any]] | None = None,
              ) -> dict[str, Range | None]:
    """Modelled time, as a multiple of that of a machine with DRAM only.

    baseline: counts of a run that did the same work there; without it, the
    fills and write-backs of `ranges`.  Both are on the same DRAM, so what is
    not known of it is not in the result twice: low and high are the least
    and the most over all values that the models allow.  Each time is a sum
    of values with weights, so that the extremes are in corners.
    """
    check_counts({"computing": computing}, "computing")
    models = {m.name: m for m in (dram, *(chosen[n] for n in ranges))}
    base = all_dram(ranges if baseline is None else baseline)

    def quotient(use: Mapping[str, Model], key: str) -> Range | None:
        same = use[dram.name]
        top = total_time(ranges, {n: use[chosen[n].name] for n in ranges},
                         same, key, computing)
        bottom = total_time(base, dict.fromkeys(base, same), same, key,
                            computing)
        if top is None or bottom is None or bottom.typical <= 0:
            return None
        return top.scale(1 / bottom.typical)

    found = {}
    for key, values in TIMES.items():
        usual = quotient({n: pinned(m, {}) for n, m in models.items()}, key)
        ends = [quotient(use, key) for use in corners(models, values)]
        found[key] = usual and Range(min(e.low for e in ends if e),
                                     usual.typical,
                                     max(e.high for e in ends if e))
    return found


# --- C ----------------------------------------------------------------------


def c_range(value: Range | None) -> str:
    """An initialiser of HmRange."""
    return "{ }" if value is None else \
        "{ true, " + ", ".join(repr(v) for v in value) + " }"


def emit_table(models: Mapping[str, Model]) -> str:
    """hm_model_table."""
    lines = ["/* Made by tools/hybridmem_models.py from"
             " device-models.toml. */", '#include "qemu/osdep.h"',
             '#include "hw/hybridmem/model.h"', "",
             "const HmModel hm_model_table[] = {"]
    for model in models.values():
        lines += ["    {", f"        .name = {json.dumps(model.name)},",
                  f"        .title = {json.dumps(model.title)},",
                  f"        .reference = {str(model.reference).lower()},"]
        lines += [f"        .{key.replace('-', '_')} = {c_range(value)},"
                  for key, value in model.values.items()]
        lines.append("    },")
    return "\n".join(lines + ["    { }", "};", ""])


def emit_vectors(models: Mapping[str, Model], cases: int = 20) -> str:
    """Traffic and the account of it, for the unit test of model.c."""
    rng = random.Random(1)
    lines = ["/* Made by tools/hybridmem_models.py: its own results. */",
             "static const Vector vectors[] = {"]
    for model in models.values():
        for case in range(cases):
            counts = {"fills": rng.randrange(10 ** 12),
                      "writebacks": rng.randrange(10 ** 12) if case else 0,
                      "bytes": rng.randrange(1, 1 << 40)}
            seconds = rng.random() * 1e6
            found = account(counts, model, seconds)
            lines.append(
                f"    {{ {json.dumps(model.name)}, {{ {counts['fills']}.0,"
                f" {counts['writebacks']}.0, {counts['bytes']}.0,"
                f" {seconds!r} }},\n      {{ "
                + ",\n        ".join(c_range(found[k]) for k in
                                     ("latency-s", "transfer-s", "energy-j",
                                      "wear"))
                + f" }},\n      {c_range(found['years'])} }},")
    return "\n".join(lines + ["};", ""])


# --- as a program -----------------------------------------------------------


def plain(value: Any) -> Any:
    """For JSON: a Range as an object of three numbers."""
    if isinstance(value, Range):
        return {"low": value.low, "typical": value.typical,
                "high": value.high}
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return value


def as_json(models: Mapping[str, Model]) -> str:
    """All models with their sources."""
    return json.dumps({m.name: {"title": m.title, "reference": m.reference,
                                **{k: {**plain(v), "source": m.sources[k]}
                                   for k, v in m.values.items()}}
                       for m in models.values()}, indent=2)


def shown(value: Range | None) -> str:
    """A value for people."""
    if value is None:
        return "-"
    if value.low == value.high:
        return f"{value.typical:g}"
    return f"{value.typical:g} ({value.low:g}..{value.high:g})"


def as_table(models: Mapping[str, Model]) -> str:
    """All models side by side."""
    rows = [["", *models]]
    rows += [[key, *(shown(m.get(key)) for m in models.values())]
             for key in KEYS]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in
                               zip(row, widths)).rstrip() for row in rows)


def account_file(models: Mapping[str, Model], text: str) -> str:
    """The JSON for --account."""
    try:
        given = json.loads(text)
        ranges, names = given["ranges"], given["models"]
        chosen = {name: find(models, names[name]) for name in ranges}
        dram = reference(models)
        found = account_ranges(ranges, chosen, given.get("seconds", 0),
                               given.get("instructions", 0), dram)
        found["over-dram"] = over_dram(ranges, chosen, dram,
                                       given.get("computing", 0),
                                       given.get("baseline"))
        return json.dumps(plain(found), indent=2)
    except (KeyError, TypeError, AttributeError,
            json.JSONDecodeError) as err:
        raise ModelError(f"these counts are not of the form that --help"
                         f" shows: {err!r}") from err


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--presets", type=Path, default=PRESETS,
                        help="another file of models")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="with sources")
    what.add_argument("--account", metavar="COUNTS",
                      type=argparse.FileType(encoding="utf-8"))
    what.add_argument("--emit-c", action="store_true",
                      help="the engine's table")
    what.add_argument("--emit-c-vectors", action="store_true",
                      help="for the unit test")
    args = parser.parse_args()
    try:
        models = load(args.presets)
        if args.account:
            print(account_file(models, args.account.read()))
        elif args.emit_c:
            print(emit_table(models), end="")
        elif args.emit_c_vectors:
            print(emit_vectors(models), end="")
        else:
            print(as_json(models) if args.json else as_table(models))
    except (ModelError, OSError) as err:
        print(f"{Path(sys.argv[0]).name}: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
