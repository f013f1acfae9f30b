# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs cells: what is missing or has changed, several at a time.

Each cell runs in a process of its own, in the folder CELL.partial, which
becomes CELL when all results are there and whole.  So a run that is broken
off, or fails, leaves nothing that would be taken for a result, and goes on
with the cells that are left.
"""

import contextlib
import fcntl
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import statistics
import sys
import time
import traceback
from typing import Callable, NamedTuple

from . import files

RUN = "run.json"                # what produced a cell's results; comes last
LOG = "log.txt"
FACTS = "facts.json"
END_SECONDS = 5                 # to end in peace
BEAT_SECONDS = 30


# Exit status of a program that was told to end.
broken_off = []


def break_off():
    """SIGTERM and SIGINT end the program, soon.

    An exception that a signal raises is lost where Python cannot raise any,
    as while it frees an object; so it is kept, too.
    """
    def stop(number, _frame):
        broken_off.append(128 + number)
        sys.exit(128 + number)

    for number in ENDING:
        signal.signal(number, stop)


ENDING = {signal.SIGTERM, signal.SIGINT}


@contextlib.contextmanager
def undisturbed():
    """Signals that end the program wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


class Lab(NamedTuple):
    """What the runner does not know.

    `name` is the bench's, `format` that of its results: with another one all
    cells run again.

    inputs_key(cell) returns a map {name: text or hash} of all that a result
    depends on: binaries, images, scenario, parameters.  It is quick, and may
    build nothing.

    run_cell(cell, directory) does the run and leaves its files in the
    directory.  It returns a map of facts, which goes to run.json.  It raises
    if anything is not as it should be.  It is called in a process (and
    session) of its own, whose output goes to a log, and is ended by SIGTERM
    and, 5 s later, SIGKILL to the process group.

    load(cell, directory, run=None) reads what run_cell left, as an object
    whose `run` is the content of run.json, which `run` replaces while that is
    yet to be written.  It raises ResultError for what is not whole.
    """
    name: str
    format: int
    inputs_key: Callable
    run_cell: Callable
    load: Callable


def inputs_of(lab, cell):
    """The map from which a cell's key is made."""
    return {"format": str(lab.format), **lab.inputs_key(cell)}


def key_of(inputs):
    """A key that changes when any input does."""
    text = json.dumps(inputs, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def changed(lab, cell, root):
    """Why a cell must run; None: it need not."""
    inputs = inputs_of(lab, cell)
    directory = root / cell.name
    if not directory.exists():
        return "not run yet"
    try:
        run = lab.load(cell, directory).run
    except files.ResultError as error:
        return str(error)
    if run.get("key") == key_of(inputs):
        return None
    old = run.get("inputs", {})
    names = sorted(name for name in {*old, *inputs}
                   if old.get(name) != inputs.get(name))
    return f"changed: {', '.join(names)}"


@contextlib.contextmanager
def lock(lab, root):
    """One runner at a time."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise files.ResultError(f"{root}: another {lab.name} is at "
                                      "work there") from error
        yield


def load_all(lab, cells, root):
    """({cell: result}, [what is wrong with others that are there])."""
    found, wrong = {}, []
    for cell in cells:
        directory = root / cell.name
        if not directory.exists():
            continue
        try:
            found[cell] = lab.load(cell, directory)
        except files.ResultError as error:
            wrong.append(f"{error}; again: {lab.name} --force --only "
                         f"{cell.name}")
    return found, wrong


# --- In the cell's process ---------------------------------------------------


def child(lab, cell, directory):
    """Runs one cell; exits with 0 if it left its facts."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    log = os.open(directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                  0o666)
    for fd in (1, 2):
        os.dup2(log, fd)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    try:
        facts = lab.run_cell(cell, directory)
        (directory / FACTS).write_text(json.dumps(facts))
    except Exception:           # the log is where it is looked for
        traceback.print_exc()
        sys.exit(1)


# --- In the runner's ---------------------------------------------------------


class Job:
    """A cell at work."""

    def __init__(self, lab, cell, root, inputs):
        self.lab, self.cell = lab, cell
        self.inputs = inputs
        self.root = root
        self.directory = root / f"{cell.name}.partial"
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.started = time.monotonic()
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=child,
                                       args=(lab, cell, self.directory))
        self.process.start()

    @property
    def seconds(self):
        """Since it began."""
        return time.monotonic() - self.started

    def _signal(self, number):
        """To the group; in its first moment the process has none yet."""
        for send in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                send(self.process.pid, number)
                return

    def end(self):
        """Ends the process, if it runs, and what it started."""
        if self.process.is_alive():
            self._signal(signal.SIGTERM)
            self.process.join(END_SECONDS)
        self._signal(signal.SIGKILL)
        self.process.join()

    def last_line(self):
        """Of the log."""
        with contextlib.suppress(OSError):
            text = (self.directory / LOG).read_text(errors="replace")
            lines = [line for line in text.splitlines() if line.strip()]
            return lines[-1].strip() if lines else "it said nothing"
        return "it said nothing"

    def collect(self):
        """The results' way to their place.  Raises ResultError."""
        if self.process.exitcode:
            raise files.ResultError(self.last_line())
        facts = self.directory / FACTS
        run = {"key": key_of(self.inputs), "cell": self.cell._asdict(),
               "inputs": self.inputs, "facts": files.read_json(facts),
               "wall-seconds": round(self.seconds, 1)}
        self.lab.load(self.cell, self.directory, run)
        facts.unlink()
        (self.directory / RUN).write_text(
            json.dumps(run, indent=1) + "\n")
        place = self.root / self.cell.name
        shutil.rmtree(place, ignore_errors=True)
        self.directory.rename(place)


def earlier_seconds(cell, root):
    """How long a cell took when it last ran; None: unknown."""
    try:
        return files.read_json(root / cell.name /
                                 RUN).get("wall-seconds")
    except files.ResultError:
        return None


class Runner:
    """Works off a list of cells."""

    def __init__(self, lab, root, jobs=2, timeout=1800, say=print):
        self.lab, self.root = lab, root
        self.jobs, self.timeout = jobs, timeout
        self.say = say
        self.failures = {}      # cell -> why
        self.took = {}          # cell -> seconds, now or formerly
        self.waiting, self.running = [], []
        self.total = self.done = 0

    def todo(self, cells, force=False):
        """[(cell, inputs, why)] of those that must run."""
        found = []
        for cell in cells:
            why = "forced" if force else changed(self.lab, cell, self.root)
            if why:
                found.append((cell, inputs_of(self.lab, cell), why))
        return found

    def left(self):
        """Expected seconds until all is done; None: nobody knows."""
        if not self.took:
            return None
        mean = statistics.mean(self.took.values())
        work = [self.took.get(cell, mean) for cell, *_ in self.waiting]
        work += [max(0, self.took.get(job.cell, mean) - job.seconds)
                 for job in self.running]
        return max(sum(work) / self.jobs, max(work, default=0))

    def _report(self, cell, words):
        left = self.left()
        rest = f"; about {left / 60:.0f} min left" \
            if left is not None and self.done < self.total else ""
        self.say(f"[{self.done:2}/{self.total}] {cell.name:22} {words}{rest}")

    def _start(self):
        cell, inputs, why = self.waiting.pop(0)
        with undisturbed():     # what runs must be known, to be ended
            self.running.append(Job(self.lab, cell, self.root, inputs))
        self._report(cell, f"started ({why})")

    def _finish(self, job):
        self.running.remove(job)
        job.end()
        self.done += 1
        seconds = job.seconds
        try:
            job.collect()
        except files.ResultError as error:
            self.fail(job, str(error))
            return
        self.took[job.cell] = seconds
        self._report(job.cell, f"done in {seconds:.0f} s")

    def fail(self, job, why):
        """A cell that failed does not stop the others."""
        self.failures[job.cell] = why
        self._report(job.cell, f"FAILED: {why}; see {job.directory / LOG}")

    def _wait(self):
        ready = multiprocessing.connection.wait(
            [job.process.sentinel for job in self.running], timeout=1)
        for job in list(self.running):
            if job.process.sentinel in ready:
                self._finish(job)
            elif job.seconds > self.timeout:
                self.running.remove(job)
                job.end()
                self.done += 1
                self.fail(job, f"took more than {self.timeout:.0f} s")

    def _loop(self):
        beat = time.monotonic()
        while self.waiting or self.running:
            while self.waiting and len(self.running) < self.jobs:
                self._start()
                beat = time.monotonic()
            done = self.done
            self._wait()
            if broken_off:
                sys.exit(broken_off[0])
            if self.done != done:
                beat = time.monotonic()
            elif time.monotonic() - beat > BEAT_SECONDS:
                beat = time.monotonic()
                for job in self.running:
                    self._report(job.cell, f"at work for {job.seconds:.0f} s")

    def run(self, cells, force=False):
        """Runs what must; returns the failures."""
        self.waiting = self.todo(cells, force)
        self.total, self.done = len(self.waiting), 0
        if len(cells) > self.total:
            self.say(f"{len(cells) - self.total} of {len(cells)} cells are "
                     "there and up to date")
        earlier = {c: earlier_seconds(c, self.root) for c in cells}
        self.took = {c: s for c, s in earlier.items() if s is not None}
        try:
            self._loop()
        finally:
            for job in self.running:
                job.end()
        return self.failures
