# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel and initramfs: made from Debian's packages and tests/guest/*.c,
kept under build/guest, made again when an input changes."""

import contextlib
import fcntl
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "guest"

KERNEL_PACKAGES = ("linux-image-cloud-amd64", "linux-image-amd64")
CFLAGS = ("-O2", "-g0", "-Wall", "-Werror", "-static", "-pthread")

# Links for the shell of script_init(); the rest is called as "busybox NAME".
APPLETS = ("sh", "mount", "poweroff", "cat", "echo", "sleep", "insmod", "ls")


class GuestError(Exception):
    """A sentence for the user."""


class Image(NamedTuple):
    kernel: pathlib.Path
    initrd: pathlib.Path


def say(text):
    print(text, flush=True)


@contextlib.contextmanager
def locked(folder=BUILD):
    """One builder at a time in a folder; others wait for its result."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*command, **kwargs):
    try:
        return subprocess.run(command, check=True, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, **kwargs).stdout
    except FileNotFoundError as e:
        raise GuestError(f"{command[0]} is not installed") from e
    except subprocess.CalledProcessError as e:
        text = (e.stderr or e.stdout).strip()
        raise GuestError(f"{' '.join(map(str, command))}: {text}") from e


# Packages

def depends(package_name, *options):
    text = run("apt-cache", "depends", "--no-recommends", "--no-suggests",
               "--no-conflicts", "--no-breaks", "--no-replaces",
               "--no-enhances", *options, package_name)
    return text.splitlines()


def download(names, directory):
    command = ("apt-get", "-q", "-o", "APT::Sandbox::User=" +
               (os.environ.get("USER") or "root"), "download", *names)
    try:
        run(*command, cwd=directory, timeout=600)
    except GuestError:
        if os.geteuid() != 0:
            raise
        say("  package lists are stale: apt-get update")
        run("apt-get", "-q", "update", timeout=600)
        run(*command, cwd=directory, timeout=600)


def unpack(names, target, fetch=download):
    """Downloads packages and unpacks them into target, whole or not at all.
    fetch(names, directory) leaves their files there."""
    say(f"  fetching {', '.join(names)} (Debian package"
        f"{'s' if len(names) > 1 else ''})")
    with tempfile.TemporaryDirectory(dir=BUILD) as work:
        fetch(names, work)
        tree = pathlib.Path(work) / "tree"
        tree.mkdir()
        for deb in sorted(pathlib.Path(work).glob("*.deb")):
            run("dpkg-deb", "-x", deb, tree)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        tree.rename(target)


def package(name, with_libraries=False):
    """The directory that a Debian package, and with_libraries also the
    library packages that it depends on, are unpacked in."""
    target = BUILD / "packages" / name
    with locked():
        if not target.exists():
            names = {name}
            if with_libraries:
                found = depends(name, "--recurse")
                names |= {line for line in found
                          if re.match(r"(lib|zlib)\S*$", line)}
            unpack(sorted(names), target)
    return target


def package_program(package_name, path):
    """Files {path in the guest: file here} of a program from Debian with all
    the libraries that it loads, as its own package's dynamic linker says."""
    root = package(package_name, with_libraries=True)
    binary = root / path
    triplet = "x86_64-linux-gnu"
    libs = [root / "lib" / triplet, root / "usr/lib" / triplet]
    loader = next(p for d in libs for p in d.glob("ld-linux-x86-64.so.2"))
    # Libraries that only others load lie in folders of their own (ceph).
    libs += sorted({p.parent for d in libs for p in d.glob("*/lib*.so.*")})
    text = run(loader, "--inhibit-cache", "--library-path",
               ":".join(map(str, libs)), "--list", binary)
    files = {path: binary, "lib64/ld-linux-x86-64.so.2": loader}
    for found in re.findall(r"(\S+) => (/\S+)", text):
        files[f"lib/{triplet}/{os.path.basename(found[0])}"] = found[1]
    return files


# Kernel

class Kernel:
    def __init__(self, tree):
        self.vmlinuz = next(tree.glob("boot/vmlinuz-*"))
        self.release = self.vmlinuz.name.removeprefix("vmlinuz-")
        self.directory = next(d / self.release
                              for d in (tree / "lib/modules",
                                        tree / "usr/lib/modules")
                              if (d / self.release).exists())

    def _find(self, name):
        pattern = re.sub("[-_]", "[-_]", name)
        return next(self.directory.rglob(pattern + ".ko*"), None)

    def modules(self, *wanted):
        """(name, contents) of modules and of what they depend on, in the
        order in which they must be loaded; built-in ones are left out."""
        found = {}

        def add(name):
            path = self._find(name)
            if not path or name in found:
                return
            data = path.read_bytes()
            if path.suffix == ".xz":
                data = lzma.decompress(data)
            needs = re.search(rb"\0depends=([^\0]*)\0", data)
            for other in (needs[1].decode() if needs else "").split(","):
                add(other.replace("-", "_"))
            found[name] = data

        for name in wanted:
            add(name.replace("-", "_"))
        return list(found.items())


def kernel_package(metas):
    for meta in metas:
        with contextlib.suppress(GuestError):
            for line in depends(meta):
                match = re.match(r"\s*Depends: (linux-image-\d\S+)", line)
                if match:
                    return match[1]
    raise GuestError("apt knows no Debian kernel (" +
                     ", ".join(metas) + "): run apt-get update")


def kernel(metas=KERNEL_PACKAGES, name="kernel"):
    """The first of Debian's kernels `metas` that apt knows, by default that
    for virtual machines: fetched once, then kept as `name`."""
    tree = BUILD / name
    with locked():
        if not tree.exists():
            unpack([kernel_package(metas)], tree)
    return Kernel(tree)


# Programs of our own

def program(name):
    """tests/guest/NAME.c as a static program."""
    sources = [HERE / f"{name}.c", HERE / "guest.h"]
    compiler = os.environ.get("CC", "cc").split()
    key = hashlib.sha256(" ".join(compiler + list(CFLAGS)).encode())
    for source in sources:
        key.update(source.read_bytes())
    target = BUILD / "bin" / f"{name}-{key.hexdigest()[:16]}"
    with locked():
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            for old in target.parent.glob(f"{name}-" + "[0-9a-f]" * 16):
                old.unlink()
            part = target.with_suffix(".part")
            run(*compiler, *CFLAGS, "-o", part, sources[0])
            part.rename(target)
    return target


# Initramfs

class Cpio:
    """An archive in the kernel's "newc" format; the same bytes for the same
    contents."""

    def __init__(self):
        self.parts = []
        self.seen = set()

    def _entry(self, name, mode, data=b"", rdev=(0, 0)):
        raw = name.encode() + b"\0"
        fields = (len(self.seen), mode, 0, 0, 1, 0, len(data), 0, 0,
                  *rdev, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        for part in (head, data):
            self.parts += [part, bytes(-len(part) % 4)]
        self.seen.add(name)

    def directory(self, name):
        if name and name not in self.seen:
            self.directory(os.path.dirname(name))
            self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o755):
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name, target):
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, major, minor):
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFCHR | 0o600, rdev=(major, minor))

    def finish(self):
        self._entry("TRAILER!!!", 0)
        return b"".join(self.parts)


def contents(source):
    return source if isinstance(source, bytes) else \
        pathlib.Path(source).read_bytes()


def busybox():
    return package("busybox-static")


def script_init(script):
    """Files of a guest whose init is a shell script: after /proc, /sys, /dev
    and the modules are there, `script` runs; then the guest powers off."""
    tree = busybox()
    binary = next(p for p in (tree / "bin/busybox", tree / "usr/bin/busybox")
                  if p.exists())
    init = ("#!/bin/sh\n"
            "export PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
            "mount -t proc proc /proc\n"
            "mount -t sysfs sysfs /sys\n"
            "mount -t devtmpfs devtmpfs /dev\n"
            "mount -t tmpfs tmpfs /tmp\n"
            "for m in /modules/*.ko; do [ -e $m ] && insmod $m; done\n"
            "echo hm: start\n" + script +
            "\necho hm: end\npoweroff -f\n")
    return {"bin/busybox": binary, "init": init.encode()}


def image(name, init=None, files=None, modules=()):
    """Kernel and initramfs.  `init` is the only program, or `files` ({path in
    the guest: file or bytes}, see script_init()) has one."""
    the_kernel = kernel()
    cpio = Cpio()
    cpio.device("dev/console", 5, 1)
    for directory in ("proc", "sys", "tmp"):
        cpio.directory(directory)
    for number, (module, data) in enumerate(the_kernel.modules(*modules)):
        cpio.file(f"modules/{number:02}-{module}.ko", data, 0o644)
    files = dict(files or {})
    if init:
        files["init"] = init
    for path, source in sorted(files.items()):
        cpio.file(path, contents(source))
    if "bin/busybox" in files:
        for applet in APPLETS:
            cpio.link(f"bin/{applet}", "busybox")
    data = cpio.finish()
    initrd = BUILD / f"{name}.cpio"
    with locked():
        if not initrd.exists() or initrd.read_bytes() != data:
            part = initrd.with_suffix(".part")
            part.write_bytes(data)
            part.rename(initrd)
    return Image(the_kernel.vmlinuz, initrd)


if __name__ == "__main__":
    sys.exit("import guest from tests/, see tests/guest/__init__.py")
