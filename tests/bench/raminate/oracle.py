# SPDX-License-Identifier: GPL-2.0-or-later
"""What a policy that knew the future would reach: oracle.c, built at need with
tools/hybridmem-optimum.c."""

import hashlib
import json
import os
import pathlib
import subprocess

from cells.files import digest, read_json

from . import results

TOOLS = pathlib.Path(__file__).resolve().parents[3] / "tools"
SOURCES = [pathlib.Path(__file__).with_name("oracle.c"),
           TOOLS / "hybridmem-optimum.c", TOOLS / "hybridmem-optimum.h"]
FLAGS = ["-O2", "-std=gnu11", "-Wall"]
LINES_PER_MOVE = results.PAGE // results.LINE
RESULT = "oracle.json"
TIMEOUT = 600


def version():
    """Of the program."""
    text = b"".join(source.read_bytes() for source in SOURCES)
    return hashlib.sha256(text + " ".join(FLAGS).encode()).hexdigest()[:16]


def build(directory):
    """The program's path; it is made unless it is there."""
    program = pathlib.Path(directory) / f"oracle-{version()}"
    if not program.exists():
        made = program.with_suffix(f".{os.getpid()}")
        done = subprocess.run(["cc", *FLAGS, f"-I{TOOLS}", "-o", made,
                               *SOURCES[:2], "-lm"],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise results.ResultError(f"cc {SOURCES[0]}: "
                                      f"{done.stderr.strip()}")
        made.replace(program)
    return program


def solve(program, pages, dram_pages, phase=results.PHASE,
          lines=LINES_PER_MOVE):
    """What oracle.c says of a pages.tsv: a map with unmanaged, fixed, bound,
    feasible and others (see there)."""
    done = subprocess.run(["nice", program, pages, phase, str(dram_pages),
                           str(lines)], capture_output=True, text=True,
                          timeout=TIMEOUT, check=False)
    if done.returncode:
        raise results.ResultError(done.stderr.strip())
    return json.loads(done.stdout)


def of(result, program):
    """That of an unmanaged cell's result; kept in its folder."""
    pages = result.directory / results.PAGES
    kept = result.directory / RESULT
    key = f"{version()} {digest(pages)} {result.frames[0]}"
    if kept.exists():
        try:
            said = read_json(kept)
            if said.get("key") == key:
                return said
        except results.ResultError:
            pass                # broken off: once more
    said = {"key": key, **solve(program, pages, result.frames[0])}
    metered = result.count("writebacks", "nvm")
    if said["unmanaged"] != metered:
        raise results.ResultError(
            f"{pages}: {said['unmanaged']} write-backs to nvm, but "
            f"{metered} in {results.METER}: rows are missing")
    kept.write_text(json.dumps(said, indent=1) + "\n")
    return said
