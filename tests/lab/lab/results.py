# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of scenarios: their folder under build/lab/results, the files in it,
the TAP lines."""

import contextlib
import fcntl
import json
import shutil
import subprocess
import time

import guest

from . import BUILD, LabError, checks, rootfs, server
from .hardware import MiB

RESULTS = BUILD / "results"
MAX_OUTPUT = 15         # lines of the console shown with a failure
# What a kernel says that the emulator has lost; Run.lost_by_emulator().
LOST = "BUG: scheduling while atomic"


@contextlib.contextmanager
def folder_for(folder):
    """A result folder, empty and for this run alone."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise LabError(f"{folder.name}: another run of it is under way; "
                           "give --out FOLDER to run it beside") from e
        shutil.rmtree(folder)
        folder.mkdir()
        yield folder


def write_json(path, data):
    path.write_text(json.dumps(data, indent=1) + "\n")


def by_name(data):
    """The meter's lists of ranges and phases as tables, by their names: so
    that a check can say meter.phases[1].ranges.nvm.stores."""
    if isinstance(data, dict):
        return {key: by_name(value) for key, value in data.items()}
    if not isinstance(data, list):
        return data
    for key in ("range", "phase"):
        if data and all(isinstance(e, dict) and key in e for e in data):
            return {str(e[key]): by_name(e) for e in data}
    return [by_name(e) for e in data]


def read_meter(folder, number):
    """The meter's counts of a boot, by_name(), or None."""
    path = folder / f"meter-{number}.json"
    try:
        return by_name(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None


class Run:
    """One scenario from its image to its TAP lines."""

    def __init__(self, scenario, folder, obj):
        self.scenario = scenario
        self.folder = folder
        self.obj = obj
        self.boots = []
        self.meters = []
        self.commands = []
        self.image = None
        self.hashes = {}
        self.figures = {}       # the scenario's, worked out
        self.lines = []         # (passed, text)
        self.seconds = 0.0
        self.lost = None        # folder of a run before this one

    def backing(self):
        """Where nvdimms and disks lie: in files, if they must outlive a boot
        of the server; see Hardware.options()."""
        several = len(self.scenario.boots) > 1
        return self._file if several or self.scenario.server.disk else None

    def _file(self, name, size):
        path = self.folder / f"{name}.backing"
        if not path.exists():
            with open(path, "wb") as f:
                f.truncate(size)
        return path

    def prepare(self):
        """The initramfs: the server's, then the scenario's part."""
        self.image = rootfs.server_image(
            self.obj, self.scenario.server.kernel,
            tell=lambda text: guest.say(f"# {text}"))
        files, self.hashes = rootfs.scenario_files(self.scenario, self.obj)
        initrd = self.folder / "initrd"
        with open(initrd, "wb") as f:
            f.write(rootfs.pad(self.image.initrd.read_bytes()))
            f.write(rootfs.pad(rootfs.scenario_archive(files)))
        return initrd

    def execute(self):
        """All boots, until one fails."""
        started = time.monotonic()
        initrd = self.prepare()
        size = initrd.stat().st_size
        try:
            for number, boot in enumerate(self.scenario.boots):
                with open(initrd, "r+b") as f:
                    f.truncate(size)
                    f.seek(size)
                    f.write(rootfs.boot_archive(boot))
                line = server.command(
                    self.scenario, self.image, initrd, self.obj, boot=number,
                    folder=self.folder, backing=self.backing())
                self.commands.append(server.versions_free_of_paths(line))
                done = server.run_boot(self.scenario, line, self.folder,
                                       number,
                                       boot.timeout or self.scenario.timeout)
                self.boots.append(done)
                self.meters.append(read_meter(self.folder, number))
                if done.failure:
                    break
        finally:
            initrd.unlink()
            for path in self.folder.glob("*.backing"):
                path.unlink()
        self.seconds = time.monotonic() - started

    def names(self):
        """What checks can name: results of all boots, and the meters."""
        found = {}
        for boot in self.boots:
            found |= boot.results
        found["meters"] = self.meters
        found["meter"] = self.meters[-1] if self.meters else None
        found["MiB"] = MiB
        return found | self.figures

    def work_out(self):
        """The figures; each may name those before it."""
        for name, text in self.scenario.figures.items():
            self.figures[name] = checks.Check(text).evaluate(self.names())

    def judge(self):
        """Fills `lines`."""
        for boot in self.boots:
            self.lines += boot.tests
        failure = next((b.failure for b in self.boots if b.failure), None)
        if failure:
            self.lines.append((False, failure))
            return
        try:
            self.work_out()
        except LabError as e:
            self.lines.append((False, str(e)))
        names = self.names()
        self.lines += [checks.judge(c, names) for c in self.scenario.checks]
        if not self.lines:
            self.lines.append((True, "ran to its end"))

    def save(self):
        names = self.names()
        del names["meters"], names["MiB"]
        write_json(self.folder / "results.json", names)
        write_json(self.folder / "run.json", {
            "scenario": self.scenario.name, "about": self.scenario.about,
            "passed": all(p for p, _ in self.lines),
            "tests": [{"ok": p, "text": t} for p, t in self.lines],
            "exact": self.scenario.exact,
            "wall seconds": round(self.seconds, 1),
            "wall times": [b.times for b in self.boots],
            "versions": {k: v for k, v in self.image.facts.items()
                         if k not in ("key", "sha256")},
            "images": {"server": self.image.facts["sha256"], **self.hashes},
            "commands": self.commands})

    def console(self):
        """Its last lines, for a failure."""
        if not self.boots:
            return []
        return server.last_lines(
            self.folder / f"console-{self.boots[-1].number}", MAX_OUTPUT)


    def lost_by_emulator(self):
        """The server's kernel has lost count of an exception that it is in,
        which no program in it can bring about; see docs/lab.md."""
        return bool(self.boots and self.boots[-1].failure) and \
            not self.scenario.exact and \
            any(LOST in f.read_text(errors="replace")
                for f in self.folder.glob("console-*"))


def run_scenario(scenario, obj, root=RESULTS):
    """A finished Run, with its files in root/NAME, which is emptied first.
    What goes wrong in it is a failed line of it; nothing is raised.  One that
    the emulator has lost is kept in NAME.lost, and made once more."""
    run = run_once(scenario, obj, root)
    if run.lost_by_emulator():
        lost = run.folder.with_name(f"{run.folder.name}.lost")
        shutil.rmtree(lost, ignore_errors=True)
        run.folder.rename(lost)
        run = run_once(scenario, obj, root)
        run.lost = lost
    return run


def run_once(scenario, obj, root):
    run = Run(scenario, root / scenario.name, obj)
    try:
        with folder_for(run.folder):
            run.execute()
            run.judge()
            run.save()
    except (guest.GuestError, OSError, subprocess.SubprocessError) as e:
        run.lines.append((False, str(e)))
    return run
