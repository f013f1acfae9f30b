# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that boots as users' disks do: GRUB from Debian's packages, then a
Linux guest that writes a hot set, and powers off when its power button is
pressed (virsh shutdown)."""

import os
import pathlib
import tempfile

import guest
from guest.image import BUILD, locked, package, run

SECTOR = 512
KERNEL_AT = 2048                # sectors; GRUB lies before
GRUB = "usr/lib/grub/i386-pc"

# Kernel parameters: hm.* are the workload's.
PARAMS = ("console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable "
          "no_timer_check random.trust_cpu=on")
WORK = "hm.buffer_mb=32 hm.hot=1000 hm.rounds=1000000000 hm.period_ms=50"

# What fills DRAM comes first, so that the hot set begins in slower memory.
# The workload never ends; the button's event ends the guest.
INIT = """
busybox dd if=/dev/zero of=/tmp/cold bs=1M count=64 2>/dev/null
for d in /sys/class/input/event*; do
    busybox grep -q 'Power Button' $d/device/name 2>/dev/null || continue
    (busybox dd if=/dev/input/${d##*/} of=/dev/null bs=24 count=1 2>/dev/null
     echo hm: power button
     poweroff -f) &
    echo hm: button
done
/workload
busybox sleep 1000000000
"""


def guest_image():
    files = guest.script_init(INIT)
    files["workload"] = guest.program("workload")
    return guest.image("libvirt-guest", files=files,
                       modules=("button", "evdev"))


def sectors(data):
    return -(-len(data) // SECTOR)


def grub(config):
    """GRUB's first sector, and the rest of it, which runs `config`."""
    files = guest.package_program("grub-common", "usr/bin/grub-mkimage")
    modules = package("grub-pc-bin") / GRUB
    loader = files["lib64/ld-linux-x86-64.so.2"]
    libraries = {os.path.dirname(file) for path, file in files.items()
                 if path.startswith("lib/")}
    with tempfile.TemporaryDirectory() as folder:
        text, core = (pathlib.Path(folder) / n for n in ("cfg", "core"))
        text.write_text(config)
        run(loader, "--inhibit-cache", "--library-path",
            ":".join(sorted(libraries)), files["usr/bin/grub-mkimage"],
            "-d", modules, "-O", "i386-pc", "-p", "(hd0)", "-c", text,
            "-o", core, "biosdisk", "linux16")
        return (modules / "boot.img").read_bytes(), core.read_bytes()


def disk(params=WORK):
    """The path of the disk, raw.  No file system is needed: GRUB is told the
    sectors of kernel and initramfs."""
    image = guest_image()
    kernel, initrd = image.kernel.read_bytes(), image.initrd.read_bytes()
    initrd_at = KERNEL_AT + sectors(kernel)
    target = BUILD / "libvirt-guest.img"
    first, rest = grub(
        f"linux16 (hd0){KERNEL_AT}+{sectors(kernel)} {PARAMS} {params}\n"
        f"initrd16 (hd0){initrd_at}+{sectors(initrd)}\nboot\n")
    if sectors(rest) >= KERNEL_AT:
        raise guest.GuestError("GRUB has grown too large for this disk")
    data = bytearray((initrd_at + sectors(initrd)) * SECTOR)
    for at, part in ((0, first), (1, rest), (KERNEL_AT, kernel),
                     (initrd_at, initrd)):
        data[at * SECTOR:at * SECTOR + len(part)] = part
    with locked():
        if not target.exists() or target.read_bytes() != data:
            part = target.with_suffix(".part")
            part.write_bytes(data)
            part.rename(target)
    return target
