# SPDX-License-Identifier: GPL-2.0-or-later
"""./configure: get a base, assemble the fork, run QEMU's own configure."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Iterator

import archive
import assemble
import deps
import firmware
from archive import Pin, Source, say
from refusal import Refusal

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
STAMP = "hybridmem-options.json"
NEWEST = "newest"


@dataclasses.dataclass
class Options:
    """What the user asked for."""

    base: str | None
    qemu_src: str | None
    build_dir: Path | None
    obj: str
    link: bool
    dry_run: bool
    check: bool
    reassemble: bool
    refresh: bool
    assemble_only: bool
    untouched: bool
    rest: list[str]


def parse(argv: list[str]) -> Options:
    """Read the command line; what is not ours goes to QEMU."""
    parser = argparse.ArgumentParser(
        prog="./configure", allow_abbrev=False,
        description="Assemble hybridmem from an upstream QEMU and our files, "
        "and configure it in build/.",
        epilog="Every other option is passed to QEMU's own configure "
        "(--with-... , --enable-..., --target-list=...).")
    add = parser.add_argument
    add("--base", metavar="10.0|10.2|newest", help="QEMU series (default: "
        "10.0); newest is whatever Debian has, supported or not")
    add("--qemu-src", metavar="PATH", help="take this QEMU, a tree or a "
        "tarball, in place of Debian's source package")
    add("--build-dir", metavar="DIR", type=Path,
        help="where to work (default: build/BASE)")
    add("--obj", default="obj", metavar="NAME", help="name of the folder in "
        "the build dir that QEMU is configured in (default: obj)")
    add("--link", action="store_true", help="for developers: lay our files "
        "in as symbolic links, so that edits need no new run")
    add("--dry-run", action="store_true", help="say what would be done")
    add("--check", action="store_true",
        help="only check that every hook fits the base")
    add("--reassemble", action="store_true",
        help="make the tree anew from the base")
    add("--refresh", action="store_true", help="with the options of the last "
        "time, if there was one (this is what make does)")
    add("--untouched", action="store_true", help="configure the base as it "
        "is, without anything of ours, in BUILD-DIR/NAME (for comparisons)")
    add("--assemble-only", action="store_true",
        help="do not run QEMU's configure")
    known, rest = parser.parse_known_args(argv)
    return Options(rest=[r for r in rest if r != "--"], **vars(known))


# --- The base -------------------------------------------------------------


def load_bases() -> tuple[str, dict[str, Pin]]:
    """bases.toml: the default series and all pins."""
    data = tomllib.loads((HERE / "bases.toml").read_text())
    pins = {series: Pin(series=series, suites=tuple(base["suites"]),
                        version=base["version"], dsc=base["dsc"],
                        orig=base["orig"])
            for series, base in data["base"].items()}
    return data["default"], pins


def own_source(path: Path, pins: dict[str, Pin], build: Path) -> \
        tuple[str, Source]:
    """The user's tree or tarball, and its series."""
    if not path.exists():
        raise Refusal(f"--qemu-src: {path} does not exist.")
    tree = path.resolve()
    if not tree.is_dir():
        tree = archive.from_tarball(
            tree, build / "archive" / f"own-{tree.name}")
    series = assemble.series_of(tree, set(pins))
    version = (tree / "VERSION").read_text().strip()
    return series, Source(tree, f"{path.resolve()}",
                          f"QEMU {version} from {path}")


def debian_source(pin: Pin, build: Path, table: assemble.Table) -> Source:
    """The pinned package, or the newest of its series whose hooks check."""
    return fitting(archive.fetch(pin, build), pin.version, build, table)


def newest_source(pins: dict[str, Pin], build: Path,
                  table: assemble.Table) -> Source:
    """The newest QEMU of any series that Debian has."""
    suites = tuple(sorted({s for pin in pins.values() for s in pin.suites}))
    version = archive.fetch_newest(suites, build)
    return fitting([version], version, build, table)


def fitting(versions: list[str], pinned: str, build: Path,
            table: assemble.Table) -> Source:
    """The first of some downloaded versions that all hooks fit."""
    troubles = []
    for version in versions:
        tree = archive.unpack(build, version)
        try:
            assemble.hook_up(list(table.hooks), tree)
        except Refusal as trouble:
            troubles.append(f"{archive.bare(version)}: {trouble}")
            continue
        words = f"QEMU {archive.bare(version)}"
        if version != pinned:
            words += (f" (in place of the pinned {archive.bare(pinned)}, "
                      f"which the archive no longer has; its hooks check)")
        return Source(tree, archive.bare(version), words)
    raise Refusal(troubles[0])


# --- QEMU's configure -----------------------------------------------------


def profile(tree: Path) -> list[str]:
    """The lean profile's options, without those marked `?` that this QEMU
    does not know."""
    known = (tree / "scripts" / "meson-buildoptions.sh").read_text()
    lines = [ln.strip() for ln in
             (HERE / "profile.txt").read_text().splitlines()]
    return [ln.lstrip("?") for ln in lines
            if ln and not ln.startswith("#")
            and (ln[0] != "?" or f" {ln[1:]}) " in known)]


def free_of_paths(tree: Path) -> list[str]:
    """So that assertions name files of the tree, not of this machine, and a
    binary is the same wherever it is built."""
    return [f"--extra-cflags=-fmacro-prefix-map={tree}/="]


def read_stamp(obj: Path) -> dict[str, Any]:
    """How `obj` was configured; empty if it was not, or not to its end."""
    try:
        stamp = json.loads((obj / STAMP).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return stamp if (obj / "build.ninja").is_file() else {}


def qemu_configure(tree: Path, obj: Path, rest: list[str], identity: str) \
        -> bool:
    """Run QEMU's configure unless it ran with the same options."""
    args = profile(tree) + free_of_paths(tree) + rest
    stamp = read_stamp(obj)
    if stamp.get("args") == args and stamp.get("identity") == identity:
        return False
    if stamp and stamp.get("identity") != identity:
        shutil.rmtree(obj)  # objects of another upstream
    obj.mkdir(parents=True, exist_ok=True)
    (obj / STAMP).unlink(missing_ok=True)
    say(f"configuring QEMU in {shown(obj)} (half a minute) ...")
    log = obj / "hybridmem-configure.log"
    with log.open("w") as out:
        done = subprocess.run([str(tree / "configure"), *args], cwd=obj,
                              stdin=subprocess.DEVNULL, stdout=out,
                              stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise Refusal("QEMU's configure failed: "
                      f"{configure_error(log.read_text())} (whole log: "
                      f"{shown(log)})")
    (obj / STAMP).write_text(json.dumps(
        {"args": args, "rest": rest, "identity": identity}, indent=1) + "\n")
    return True


def configure_error(text: str) -> str:
    """The line of a configure log that tells what is wrong."""
    lines = [ln.strip() for ln in text.splitlines() if ln.strip()]
    for line in lines:
        if "ERROR" in line:
            return line
    return lines[-1] if lines else "it said nothing"


# --- The whole ------------------------------------------------------------


def shown(path: Path) -> str:
    """A path as the user would write it."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


@contextlib.contextmanager
def locked(build_dir: Path) -> Iterator[None]:
    """One configure at a time in a build dir."""
    build_dir.mkdir(parents=True, exist_ok=True)
    with (build_dir / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find_source(options: Options, build: Path, table: assemble.Table) -> \
        tuple[str, Source]:
    """The series and the tree that the options ask for."""
    default, pins = load_bases()
    if options.qemu_src:
        series, source = own_source(Path(options.qemu_src), pins, build)
        if options.base not in (None, series):
            raise Refusal(f"--base={options.base} does not go with "
                          f"--qemu-src={options.qemu_src}, which is {series}.")
        assemble.refuse_used_tree(source.tree, table)
        assemble.hook_up(list(table.hooks), source.tree)
        return series, source
    series = options.base or default
    if series == NEWEST:
        return series, newest_source(pins, build, table)
    if series not in pins:
        raise Refusal(f"--base={series} is unknown; there are "
                      f"{', '.join(sorted(pins))}.")
    return series, debian_source(pins[series], build, table)


def recall(options: Options, build_dir: Path) -> None:
    """Fill in the options of the last run, for --refresh."""
    try:
        last = json.loads((build_dir / "last.json").read_text())
    except (FileNotFoundError, ValueError):
        return
    options.link = options.link or last["link"]
    options.qemu_src = options.qemu_src or last["qemu_src"]
    if not options.rest:
        options.rest = read_stamp(build_dir / options.obj).get("rest", [])


def remember(options: Options, build_dir: Path) -> None:
    """Keep the options for a later --refresh."""
    source = options.qemu_src and str(Path(options.qemu_src).resolve())
    (build_dir / "last.json").write_text(json.dumps(
        {"link": options.link, "qemu_src": source}) + "\n")


def describe(plan: assemble.Plan, verbose: bool) -> None:
    """Tell what a plan does."""
    say(f"  {len(plan.ours)} files of ours ({len(plan.lay)} to lay in, "
        f"{len(plan.remove)} to remove), {len(plan.hooked)} upstream files "
        f"with hooks ({len(plan.write)} to write, {len(plan.restore)} to "
        f"restore)")
    if plan.skipped:
        names = ", ".join(hook.id for hook in plan.skipped)
        say(f"  hooks that wait for files of ours: {names}")
    if verbose:
        for verb, files in (("hook", plan.write), ("restore", plan.restore),
                            ("lay", plan.lay), ("remove", plan.remove)):
            for file in files:
                say(f"  {verb:8}{file}")


def run(options: Options) -> None:
    """Do what ./configure is asked to."""
    build = REPO / "build"
    default, _ = load_bases()
    build_dir = options.build_dir
    if options.refresh:
        recall(options, build_dir or build / (options.base or default))
    missing = deps.missing(["build"])
    if missing and not options.check:
        raise Refusal(f"packages are missing: {' '.join(missing)}; run "
                      f"qemu/deps build (it installs them).")
    table = assemble.load_table(HERE / "hooks.toml")
    if options.dry_run and not options.qemu_src and not base_is_here(options,
                                                                    build):
        say(f"would fetch and unpack QEMU {options.base or default}, check "
            f"the hooks, lay our files in and configure it")
        return
    series, source = find_source(options, build, table)
    build_dir = (build_dir or build / series).resolve()
    tree, obj = build_dir / "tree", build_dir / options.obj
    assembly = assemble.Assembly(REPO, table, source.tree, tree,
                                 source.identity)
    if options.check:
        say(f"{source.words}: all {len(table.hooks)} hooks fit")
        return
    if options.dry_run:
        describe(assembly.plan(options.link), verbose=True)
        say("dry run: nothing was written")
        return
    with locked(build_dir):
        if options.untouched:
            configure_untouched(options, source, obj)
            return
        if options.reassemble:
            shutil.rmtree(tree, ignore_errors=True)
            assembly.manifest_path.unlink(missing_ok=True)
        build_all(options, assembly, source, obj)
        remember(options, build_dir)


def configure_untouched(options: Options, source: Source, obj: Path) -> None:
    """Configure the base itself."""
    qemu_configure(source.tree, obj, options.rest, source.identity)
    firmware.provide(source.tree, obj)
    say(f"{shown(obj)} is configured from the untouched {source.words}")


def build_all(options: Options, assembly: assemble.Assembly, source: Source,
              obj: Path) -> None:
    """Assemble and configure, saying what is done."""
    plan = assembly.plan(options.link)
    if plan.changes():
        say(f"assembling {source.words} in {shown(assembly.tree)}"
            f"{' (links)' if options.link else ''}")
        describe(plan, verbose=False)
    assembly.carry_out(plan, refresh=options.qemu_src is not None)
    configured = False
    if not options.assemble_only:
        configured = qemu_configure(assembly.tree, obj, options.rest,
                                    source.identity)
        firmware.provide(assembly.tree, obj)
    if not plan.changes() and not configured:
        say(f"{shown(assembly.tree.parent)} is up to date ({source.words})")
    elif not options.refresh:
        say(f"ready: ninja -C {shown(obj)}")


def base_is_here(options: Options, build: Path) -> bool:
    """Can the base be had without any download or unpacking?"""
    default, pins = load_bases()
    pin = pins.get(options.base or default)
    if pin is None:
        return True  # find_source will refuse
    version = archive.bare(pin.version)
    return archive.have(build / "archive", pin.version) and \
        (build / "archive" / f"qemu-{version}").is_dir()


def main() -> int:
    """Entry point of ./configure."""
    try:
        run(parse(sys.argv[1:]))
    except Refusal as refusal:
        say(f"configure: {refusal}")
        return 1
    except KeyboardInterrupt:
        say("configure: interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
