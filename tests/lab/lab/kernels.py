# SPDX-License-Identifier: GPL-2.0-or-later
"""The server's kernel: that of this machine's Debian, or, where a scenario
asks for a newer one, that of the release's backports (qemu/packages.toml names
the suite).  Each is fetched once and kept under build/guest."""

import functools
import importlib
import re
import sys

import guest
from guest.image import BUILD, GuestError, Kernel, kernel, locked, run, unpack

from . import LabError

META = "linux-image-amd64"
VERSION = re.compile(r"(\d+)\.(\d+)")
TREE = "server-kernel"          # a folder under build/guest


def version(text):
    """(major, minor) at the start of a version or a kernel's release; None:
    there is none."""
    found = VERSION.match(text)
    return (int(found[1]), int(found[2])) if found else None


def is_version(text):
    return bool(VERSION.fullmatch(text))


def of_release():
    """That of this machine's Debian."""
    return kernel((META,), TREE)


def installer():
    """qemu/archive.py and qemu/deps.py, which know the machine's mirror."""
    folder = str(guest.ROOT / "qemu")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module("archive"), importlib.import_module("deps")


class Backports:
    """apt with nothing but the release's backports."""

    def __init__(self):
        archive, deps = installer()
        self.refusal = archive.Refusal
        release = deps.codename()
        self.suite = deps.load()["backports"].get(release)
        if not self.suite:
            raise LabError(f"Debian {release or '(not found)'} has no "
                           "backports in qemu/packages.toml")
        self.apt = archive.Apt(
            guest.ROOT / "build/apt" / f"lab-{self.suite}",
            [f"deb [signed-by={archive.KEYRING}] "
             f"{archive.mirror_of_machine()} {self.suite} main"])

    def __call__(self, program, *args, **kwargs):
        return run(program, *self.apt.options, *args, **kwargs)

    def package(self):
        """The name of the newest kernel's package."""
        try:
            self.apt.update()
        except self.refusal as e:
            raise LabError(str(e)) from e
        text = self("apt-cache", "depends", META)
        found = re.search(r"Depends: (linux-image-\d\S+)", text)
        if not found:
            raise LabError(f"{self.suite} has no {META}")
        return found[1]

    def download(self, names, folder):
        """See guest.image.unpack."""
        self("apt-get", "-q", "download", *names, cwd=folder, timeout=600)


def newer():
    """That of the release's backports."""
    tree = BUILD / f"{TREE}-backports"
    with locked():
        if not tree.exists():
            backports = Backports()
            unpack([backports.package()], tree, backports.download)
    return Kernel(tree)


@functools.cache
def at_least(minimum):
    """The kernel for a server that needs version `minimum` ("6.11", or "" for
    any): that of the release if it will do."""
    first = of_release()
    if not minimum or version(first.release) >= version(minimum):
        return first
    words = f"server.kernel: this scenario needs Linux {minimum}; this " \
        f"Debian has {first.release}"
    try:
        second = newer()
    except GuestError as e:
        raise LabError(f"{words}, and of its backports: {e}") from e
    if version(second.release) < version(minimum):
        raise LabError(f"{words}, and its backports {second.release}: run "
                       "this scenario on a later Debian")
    return second
