# SPDX-License-Identifier: GPL-2.0-or-later
"""One boot of the server: QEMU's command line, the process, and the lines
that scripts send out (server/lib.sh)."""

import base64
import json
import os
import signal
import subprocess
import time

import guest
from guest.machine import die_with_parent

from . import LabError
from .hardware import Hardware

PARAMS = ("console=ttyS0 panic=-1 nokaslr norandmaps mitigations=off "
          "tsc=reliable no_timer_check random.trust_cpu=on "
          "random.trust_bootloader=on quiet loglevel=4")
# To TCG each byte that rep movsb copies is an instruction and a store; without
# these two features the kernel copies pages by larger words.
CPU = "max,-rdrand,-rdseed,-erms,-fsrm"
EXACT = ("-accel", "tcg,thread=single")
FAST = ("-accel", "tcg,thread=multi")
POLL_SECONDS = 0.05


def meter_path(obj):
    path = obj / "contrib/plugins/libhybridmem-meter.so"
    if not path.exists():
        raise LabError(f"{path} does not exist, and this scenario has a "
                       "[meter]: run make lab")
    return path


def meter_ranges(meter, hardware):
    """range= arguments of the plugin."""
    ranges = meter.ranges
    if ranges is None:
        ranges = [name for name, r in hardware.ranges.items()
                  if r.kind != "node"]
    if isinstance(ranges, list):
        ranges = {name: name for name in ranges}
    found = []
    for name, what in ranges.items():
        if ":" in what:
            found.append(f"range={name}:{what}")
        else:
            at = hardware.range(what)
            found.append(f"range={name}:{at.start:#x}:{at.size:#x}")
    return found


def meter_options(scenario, hardware, obj, folder, boot):
    """-plugin with all its arguments; its output is meter-BOOT.json."""
    meter = scenario.meter
    if not meter:
        return []
    words = [f"file={meter_path(obj)}", *meter_ranges(meter, hardware)]
    words += [f"{key.replace('_', '-')}={getattr(meter, key)}" for key in
              ("llc", "l1", "l2", "memory_mode", "when", "epoch")
              if getattr(meter, key)]
    if meter.pages:
        words.append(f"pages={folder / f'pages-{boot}'}")
    words.append(f"out={folder / f'meter-{boot}.json'}")
    return ["-plugin", ",".join(words)]


def command(scenario, image, initrd, obj, *, boot, folder, backing=None,
            interactive=False):
    """The outer QEMU's command line for boot number `boot`."""
    hardware = Hardware(scenario.server)
    exact = scenario.exact and not interactive
    params = " ".join(filter(None, (
        PARAMS, None if exact else tsc_param(), hardware.kernel_params(),
        scenario.server.params,
        "lab.boot=shell" * interactive)))
    accel = [*EXACT, "-icount", f"shift={scenario.server.shift},sleep=off"] \
        if exact else [*FAST]
    serials = ["-serial", "mon:stdio", "-serial", "null"] if interactive else \
        ["-serial", f"file:{folder / f'console-{boot}'}",
         "-serial", f"file:{folder / f'events-{boot}'}"]
    return [str(obj / "qemu-system-x86_64"), *accel,
            "-cpu", CPU, "-seed", "7",
            "-rtc", "clock=vm,base=2026-01-01" if exact else "base=utc",
            "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", "-name", f"lab-{scenario.name}",
            *hardware.options(backing), *serials,
            *([] if interactive else
              meter_options(scenario, hardware, obj, folder, boot)),
            "-kernel", str(image.kernel), "-initrd", str(initrd),
            "-append", params]


def tsc_param():
    """The kernel of a fast run would measure the time stamp counter against
    timers that other processes of this machine may hold up, and was seen to
    have a clock then that was six times too fast."""
    done = subprocess.run([guest.program("tsc")], check=True, text=True,
                          stdout=subprocess.PIPE)
    return f"tsc_early_khz={done.stdout.strip()}"


class Boot:
    """What one boot said, in order: results, tests, marks, files."""

    def __init__(self, folder, number):
        self.folder = folder
        self.number = number
        self.results = {}
        self.tests = []         # (passed, text)
        self.times = []         # (seconds since the start, line)
        self.failure = None     # why the boot as a whole has failed
        self.ended = False
        self._file = None       # (name, base64 lines) being received

    def hear(self, line, seconds):
        if self._file:
            self._hear_file(line)
            return
        word, _, rest = line.partition(" ")
        if word == "file":
            self._file = (os.path.basename(rest), [])
            return
        self.times.append((round(seconds, 1), line))
        if word == "result":
            key, _, value = rest.partition(" ")
            try:
                self.results[key] = json.loads(value)
            except ValueError:
                self.failure = f"result_json {key}: no JSON: {value}"
        elif word in ("ok", "not_ok"):
            self.tests.append((word == "ok", rest))
        elif word == "die":
            self.failure = self.failure or rest
        elif word == "end":
            self.ended = True

    def _hear_file(self, line):
        name, lines = self._file
        if line != ".":
            lines.append(line)
            return
        self._file = None
        try:
            data = base64.b64decode("".join(lines))
        except ValueError as e:
            self.failure = self.failure or f"file {name}: {e}"
            return
        (self.folder / name).write_bytes(data)


class Listener:
    """New complete lines of a file that QEMU writes."""

    def __init__(self, path):
        self.path = path
        self.read_to = 0

    def lines(self):
        try:
            with open(self.path, "rb") as f:
                f.seek(self.read_to)
                data = f.read()
        except FileNotFoundError:
            return []
        data = data[:data.rfind(b"\n") + 1]
        self.read_to += len(data)
        return data.decode(errors="replace").replace("\r", "").splitlines()


def last_lines(path, count=15):
    text = path.read_text(errors="replace") if path.exists() else ""
    return text.replace("\r", "").splitlines()[-count:]


def explain(boot, console, log, code):
    """Why a boot ended that did not say so itself."""
    for line in last_lines(console, 60):
        if "Kernel panic" in line:
            return f"the server's kernel panicked: {line.strip()}"
    said = last_lines(log, 2)
    if code and said:
        return f"the outer QEMU failed: {'; '.join(said)}"
    return "the server ended before the script did"


def run_boot(scenario, line, folder, number, timeout):
    """Runs the command line; a Boot.  Nothing is left running."""
    boot = Boot(folder, number)
    console, log = folder / f"console-{number}", folder / f"qemu-{number}.log"
    listener = Listener(folder / f"events-{number}")
    started = time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            preexec_fn=die_with_parent)
    try:
        while True:
            code = process.poll()
            seconds = time.monotonic() - started
            for text in listener.lines():
                boot.hear(text, seconds)
            if code is not None:
                break
            if seconds > timeout:
                boot.failure = boot.failure or \
                    f"not done after {timeout} s (key timeout)"
                break
            time.sleep(POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    boot.times.append((round(time.monotonic() - started, 1), "off"))
    if not boot.ended and not boot.failure:
        boot.failure = explain(boot, console, log, code)
    elif code and not boot.failure:
        boot.failure = explain(boot, console, log, code)
    return boot


def versions_free_of_paths(words):
    """A command line as it can be shown anywhere."""
    return [w.replace(str(guest.ROOT) + "/", "") for w in words]
