# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest images by name.

Some are made here; any other is a workload, tests/lab/workloads/NAME.py.
"""

import importlib
import sys

import guest

from . import LAB, LabError

# Kernel parameters for every guest.  Its random numbers come from the seed
# that QEMU gives it, so the same at every run, and without waiting.
PARAMS = ("console=ttyS0 quiet panic=-1 nokaslr norandmaps mitigations=off "
          "tsc=reliable no_timer_check random.trust_cpu=on "
          "random.trust_bootloader=on")


def guest_image(name, files=None, init_script=None, modules=(), init=None):
    """Kernel and initramfs (guest.Image) for guests.  `files` is {path in the
    guest: file or bytes}; `init_script` runs under busybox's shell once /proc,
    /sys, /dev and /tmp are there, then the guest powers off; `init` is the
    first program instead; `modules` of Debian's cloud kernel are loaded
    before.  The same arguments give the same bytes."""
    files = dict(files or {})
    if init_script is not None:
        files = {**guest.script_init(init_script), **files}
    return guest.image(f"lab-{name}", init=init, files=files, modules=modules)


def plain():
    """Says that it is there, and waits."""
    return guest_image("plain", init_script=(
        "cat /proc/cpuinfo | busybox grep -m1 'model name'\n"
        "busybox grep -E 'MemTotal|MemFree' /proc/meminfo\n"
        "echo hm: up\n"
        "busybox sleep 1000000000\n"))


def program(name):
    """One of tests/guest/*.c as the first process."""
    return lambda: guest_image(name, init=guest.program(name))


# hm.run="COMMAND" among the kernel's parameters is what it runs; a status
# other than 0 is its word for a difference.
VERDICT = r"""
run=$(busybox sed -n 's/.*hm\.run="\([^"]*\)".*/\1/p' /proc/cmdline)
if sh -c "$run" >/tmp/out 2>&1 </dev/null; then
    busybox tail -n 3 /tmp/out
    echo "hm: verdict OK"
else
    code=$?
    busybox tail -n 20 /tmp/out
    echo "hm: verdict DIFFERENCE exit code $code"
fi
"""


def debian(package, path):
    """A program from a Debian package, which judges its own work."""
    return lambda: guest_image(
        package, guest.package_program(package, path), VERDICT,
        ("virtio_pci", "virtio_blk"))


BUILT_IN = {"plain": plain, "workload": program("workload"),
            "checker": program("checker"), "filler": program("filler"),
            "memtester": debian("memtester", "usr/sbin/memtester"),
            "stress-ng": debian("stress-ng", "usr/bin/stress-ng"),
            "fio": debian("fio", "usr/bin/fio")}


def workloads():
    """tests/lab/workloads, which makes images by a program's name."""
    if str(LAB) not in sys.path:
        sys.path.insert(0, str(LAB))
    return importlib.import_module("workloads")


def names():
    return sorted({*BUILT_IN, *workloads().names()})


def by_name(name):
    """guest.Image of that name."""
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if name not in workloads().names():
        raise LabError(f"there is no guest image '{name}'; there are "
                       f"{', '.join(names())}, and you can write "
                       f"tests/lab/workloads/{name}.py")
    return guest.Image(*workloads().image(name)[:2])
