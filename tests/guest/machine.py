# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU process: its QMP socket, its serial console, its end."""

import ctypes
import fcntl
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

from .image import BUILD, ROOT, GuestError

PR_SET_PDEATHSIG = 1

# A guest prints its first line after 1 s under KVM on real hardware; where
# /dev/kvm is emulated in software it may get nowhere at all.
KVM_TRIAL_SECONDS = 10


class QmpError(GuestError):
    """QEMU refused a command; error_class and the sentence are its own."""

    def __init__(self, command, error):
        super().__init__(f"{command}: {error['desc']}")
        self.error_class = error["class"]


def fork_binary():
    """The assembled QEMU; QEMU_BINARY in the environment overrides it."""
    path = pathlib.Path(os.environ.get("QEMU_BINARY") or
                        ROOT / "build/10.0/obj/qemu-system-x86_64")
    if not path.exists():
        raise GuestError(f"{path} does not exist: run make first")
    return path


def exit_on_signals():
    """Makes SIGTERM and SIGHUP unwind the stack, so that nothing is left."""
    def leave(number, _frame):
        sys.exit(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Qmp:
    """One command at a time; events are kept in the order of arrival."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""
        self.events = []

    def _receive(self, deadline):
        """The next message, or None when it does not come in time."""
        while b"\n" not in self.buffer:
            wait = max(0, deadline - time.monotonic())
            if not select.select([self.sock], [], [], wait)[0]:
                return None
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                raise GuestError("QEMU closed its QMP socket")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def greet(self, timeout=30):
        deadline = time.monotonic() + timeout
        message = self._receive(deadline)
        if not message or "QMP" not in message:
            raise GuestError("QEMU sent no QMP greeting")
        self.command("qmp_capabilities")

    def command(self, name, arguments=None, timeout=60):
        message = {"execute": name}
        if arguments:
            message["arguments"] = arguments
        try:
            self.sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError as e:
            raise GuestError("QEMU closed its QMP socket") from e
        deadline = time.monotonic() + timeout
        while True:
            answer = self._receive(deadline)
            if answer is None:
                raise GuestError(f"{name}: no answer within {timeout} s")
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise QmpError(name, answer["error"])
            else:
                return answer["return"]

    def wait_event(self, wanted, timeout):
        """Takes the first event for which wanted(event) holds, or None."""
        deadline = time.monotonic() + timeout
        while True:
            for i, event in enumerate(self.events):
                if wanted(event):
                    return self.events.pop(i)
            message = self._receive(deadline)
            if message is None:
                return None
            self.events.append(message)


def claim(directory, name):
    """The log NAME.log, or NAME-2.log if another process writes that."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(1, 100):
        suffix = f"-{number}" if number > 1 else ""
        log = open(directory / f"{name}{suffix}.log", "ab")
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.close()
            continue
        log.truncate(0)
        return log
    raise GuestError(f"too many guests called {name} run")


class Machine:
    """QEMU with `args`, a QMP socket, and a serial console that is written
    to a file.  Use as a context manager: the process ends with the block."""

    def __init__(self, binary, args, name="vm", directory=None):
        self.name = name
        self.lock = claim(pathlib.Path(directory or BUILD / "run"), name)
        self.log = pathlib.Path(self.lock.name)
        self.serial = self.log.with_suffix(".serial")
        self.serial.write_bytes(b"")
        self.read_to = 0
        self.started = time.monotonic()
        ours, theirs = socket.socketpair()
        self.command_line = [
            str(binary), *map(str, args),
            "-name", name,
            "-chardev", f"socket,id=qmp,fd={theirs.fileno()}",
            "-mon", "chardev=qmp,mode=control",
            "-serial", f"file:{self.serial}"]
        self.process = subprocess.Popen(
            self.command_line, stdin=subprocess.DEVNULL, stdout=self.lock,
            stderr=self.lock, pass_fds=[theirs.fileno()],
            preexec_fn=die_with_parent)
        theirs.close()
        self.socket = ours
        self.monitor = Qmp(ours)
        try:
            self.monitor.greet()
        except GuestError as e:
            self.close()
            raise GuestError(self._died(str(e))) from e

    def _died(self, what):
        """QEMU's last message; hints and assertions are none."""
        program = os.path.basename(self.command_line[0])
        log = self.log.read_text(errors="replace")
        said = [line for line in log.splitlines()
                if line.startswith(program) and "Assertion" not in line]
        return f"{self.name}: {said[-1] if said else what}"

    def qmp(self, command, timeout=60, **arguments):
        """Underscores in argument names stand for dashes."""
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        try:
            return self.monitor.command(command, arguments, timeout)
        except QmpError:
            raise
        except GuestError as e:
            raise GuestError(self._died(str(e))) from e

    def running(self):
        return self.process.poll() is None

    def lines(self):
        """New complete lines "hm: ..." of the console, without the prefix."""
        with open(self.serial, "rb") as f:
            f.seek(self.read_to)
            data = f.read()
        data = data[:data.rfind(b"\n") + 1]
        self.read_to += len(data)
        found = (line.partition("hm: ") for line in
                 data.decode(errors="replace").splitlines())
        return [text.strip() for _, prefix, text in found if prefix]

    def wait_line(self, wanted, timeout, what=None):
        """The first new line for which wanted(line) holds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            ended = not self.running()
            for line in self.lines():
                if line.startswith("failed"):
                    raise GuestError(f"{self.name}: the guest {line}")
                if wanted(line):
                    return line
            if ended:
                raise GuestError(self._died("the guest ended too early; its "
                                            f"console is in {self.serial}"))
            time.sleep(0.05)
        raise GuestError(f"{self.name}: {what or 'nothing'} within "
                         f"{timeout:.0f} s; its console is in {self.serial}")

    def wait(self, timeout):
        """Waits for QEMU to end by itself; its exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired as e:
            raise GuestError(f"{self.name}: QEMU did not end") from e

    def close(self):
        if self.running():
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.socket.close()
        self.lock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def accel_args(accel):
    return {"kvm": ["-accel", "kvm", "-cpu", "host"],
            "tcg": ["-accel", "tcg,thread=multi"]}[accel]


def boot_args(image, params="", accel="tcg"):
    """Boots `image` with the serial console as its console; no devices but
    those that the machine cannot do without."""
    append = ("console=ttyS0 quiet panic=-1 nokaslr mitigations=off "
              "tsc=reliable no_timer_check random.trust_cpu=on " + params)
    return [*accel_args(accel), "-nodefaults", "-display", "none",
            "-no-reboot", "-kernel", image.kernel, "-initrd", image.initrd,
            "-append", append]


def kvm_trial(binary, image):
    """Why KVM cannot run the guest, or None."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm cannot be opened"
    args = boot_args(image, "hm.trial=1", "kvm") + ["-m", "256M"]
    deadline = time.monotonic() + KVM_TRIAL_SECONDS
    try:
        with tempfile.TemporaryDirectory() as directory, \
                Machine(binary, args, "kvm-trial", directory) as vm:
            while time.monotonic() < deadline:
                if "start" in vm.lines():
                    return None
                if vm.qmp("query-status")["status"] == "internal-error":
                    return "KVM stops with an internal error"
                time.sleep(0.1)
    except GuestError as e:
        return str(e)
    return f"the guest did not start within {KVM_TRIAL_SECONDS} s"


def choose_accel(binary, image):
    """("kvm" or "tcg", a sentence about it).  HM_ACCEL in the environment
    decides without a trial."""
    forced = os.environ.get("HM_ACCEL")
    if forced not in (None, "", "kvm", "tcg"):
        raise GuestError(f"HM_ACCEL={forced}: kvm or tcg is meant")
    if forced:
        return forced, f"{forced.upper()}, as HM_ACCEL says"
    reason = kvm_trial(binary, image)
    if reason:
        return "tcg", f"TCG, because KVM cannot run the guest: {reason}"
    return "kvm", "KVM"
