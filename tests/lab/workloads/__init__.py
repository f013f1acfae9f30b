# SPDX-License-Identifier: GPL-2.0-or-later
"""Workloads for guests of the lab: what runs in a guest while its memory
traffic is counted.  docs/lab-workloads.md says how to add one.

    import workloads
    workload = workloads.load("redis")
    image = workloads.image("redis")        # kernel and initrd, paths
    -m {workload.memory}M -kernel {image.kernel} -initrd {image.initrd}
    -append "console=ttyS0 ... hm.work=50"

The guest prints "hm: ready", waits for a line on its console (or not, with
hm.go=1), runs between marks 1, 2 and 0, prints "hm: done ops=N checksum=X"
and powers off.
"""

import hashlib
import importlib
import os
import pathlib
import re
import sys
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import guest  # noqa: E402

# The name guest.image is a function's.
debian = importlib.import_module("guest.image")

HERE = pathlib.Path(__file__).resolve().parent
SRC = HERE / "src"
BUILD = guest.BUILD / "lab"
INCLUDES = (guest.ROOT / "tests/guest", guest.ROOT / "include")
MARK_HEADER = guest.ROOT / "include/hw/hybridmem/meter-mark.h"

CFLAGS = ("-O2", "-g0", "-Wall", "-Werror", "-static", "-std=gnu11",
          "-ffp-contract=off")

TRIPLET = "x86_64-linux-gnu"
PHASES = ("setup", "warm", "run", "verify")


class Workload(NamedTuple):
    """A file of this folder.  The four scripts are for busybox's shell; each
    parameter is a variable in them."""
    name: str
    about: str          # the first line of the file's docstring
    memory: int         # MiB of guest RAM that the defaults are meant for
    params: dict        # name: default; hm.NAME=VALUE overrides it
    files: dict         # path in the guest: file here, or its bytes
    setup: str          # not counted
    warm: str           # phase 1, may be empty
    run: str            # phase 2; prints "ops=N"
    verify: str         # not counted; prints "checksum=X"


def names():
    return sorted(p.stem for p in HERE.glob("*.py")
                  if not p.stem.startswith("_"))


def memory_of(name):
    """MiB of guest RAM that a workload is meant for."""
    return importlib.import_module(f"{__name__}.{name}").memory


def load(name):
    """Builds and fetches what the workload needs."""
    if name not in names():
        raise guest.GuestError(f"there is no workload {name}; there are " +
                               ", ".join(names()))
    module = importlib.import_module(f"{__name__}.{name}")
    return Workload(name, module.__doc__.strip().splitlines()[0],
                    module.memory, {"work": 100, **module.params},
                    module.files(),
                    *(getattr(module, phase, "") for phase in PHASES))


def image(name):
    """Kernel and initrd; made again only when their contents change."""
    workload = load(name)
    files = {**debian.script_init((SRC / "runner.sh").read_text()),
             "bin/mark": program("mark"), **workload.files,
             "workload/params": params_script(workload.params)}
    for phase in PHASES:
        files[f"workload/{phase}"] = getattr(workload, phase).encode()
    return guest.image(f"lab-{name}", files=files)


def params_script(params):
    return "".join(f"export {name}=$(param {name} {value})\n"
                   for name, value in params.items()).encode()


# For the workloads' files

def program(name):
    """src/NAME.c as a static program."""
    compiler = os.environ.get("CC", "cc").split()
    command = [*compiler, *CFLAGS, *(f"-I{path}" for path in INCLUDES)]
    key = hashlib.sha256(" ".join(map(str, command)).encode())
    for path in (*sorted(SRC.glob("*.[ch]")), MARK_HEADER,
                 guest.ROOT / "tests/guest/guest.h"):
        if path.suffix == ".h" or path.stem == name:
            key.update(path.read_bytes())
    target = BUILD / f"{name}-{key.hexdigest()[:16]}"
    with debian.locked():
        if not target.exists():
            BUILD.mkdir(exist_ok=True)
            for old in BUILD.glob(f"{name}-" + "[0-9a-f]" * 16):
                old.unlink()
            part = target.with_suffix(".part")
            debian.run(*command, "-o", part, SRC / f"{name}.c", "-lm")
            part.rename(target)
    return target


def packages(*wanted, libraries=r"(lib|zlib)\S*"):
    """The directory that Debian packages are unpacked in, together with those
    that they depend on and whose whole name matches `libraries`."""
    target = debian.BUILD / "packages" / "+".join(("lab", *wanted))
    with debian.locked():
        if not target.exists():
            found = debian.depends(wanted[0], *wanted[1:], "--recurse")
            also = {line for line in found if re.fullmatch(libraries, line)}
            debian.unpack(sorted({*wanted, *also}), target)
    return target


def programs(root, *paths):
    """Files {path in the guest: file} for programs of packages(), with all
    the libraries that they load."""
    libs = [root / "lib" / TRIPLET, root / "usr/lib" / TRIPLET]
    loader = next(p for d in libs for p in d.glob("ld-linux-x86-64.so.2"))
    files = {"lib64/ld-linux-x86-64.so.2": loader}
    for path in paths:
        files[path] = root / path
        text = debian.run(loader, "--inhibit-cache", "--library-path",
                          ":".join(map(str, libs)), "--list", root / path)
        for name, where in re.findall(r"(\S+) => (.*)", text):
            if "not found" in where:
                raise guest.GuestError(f"{path} needs {name}, which is not "
                                       f"in {root.name}")
            where = pathlib.Path(where.split(" (")[0])
            files[f"lib/{TRIPLET}/{os.path.basename(name)}"] = where
    return files


def tree(root, prefix, pattern="**/*"):
    """Files {prefix/path: file} of the files below root that match."""
    return {f"{prefix}/{path.relative_to(root)}": path
            for path in sorted(root.glob(pattern)) if path.is_file()}
