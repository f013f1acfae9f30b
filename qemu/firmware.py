# SPDX-License-Identifier: GPL-2.0-or-later
"""Firmware for a QEMU that runs from its build folder.

Debian's source package holds none.  The BIOS and the network cards' ROMs come
from Debian's packages; QEMU's own option ROMs (without which -kernel does not
boot) are built from the tree.  QEMU looks for both in its bundle, under the
paths of --firmwarepath.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from refusal import Refusal

PACKAGED = ("/usr/share/seabios", "/usr/lib/ipxe/qemu")
OPTION_ROMS = "/usr/share/qemu"


def link(at: Path, target: Path) -> None:
    """Make `at` a link to `target`, if it is not."""
    at.parent.mkdir(parents=True, exist_ok=True)
    if at.is_symlink():
        if at.readlink() == target:
            return
        at.unlink()
    at.symlink_to(target)


def build_option_roms(tree: Path, obj: Path) -> list[Path]:
    """QEMU's configure leaves them out where there is no 32-bit libgcc, which
    they do not use."""
    folder = obj / "pc-bios" / "optionrom"
    config = folder / "config.mak"
    if not config.exists():
        config.write_text(f"TOPSRC_DIR={tree}\nCC=cc -m32\nOBJCOPY=objcopy\n"
                          f"PYTHON={shlex.quote(sys.executable)}\n")
    done = subprocess.run(["make", "-s", "-C", str(folder)], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          check=False)
    if done.returncode != 0:
        raise Refusal(f"QEMU's option ROMs cannot be built: "
                      f"{done.stderr.strip()}")
    return sorted(folder.glob("*.bin"))


def provide(tree: Path, obj: Path) -> None:
    """Put all firmware where the QEMU in `obj` looks for it."""
    bundle = obj / "qemu-bundle"
    for folder in PACKAGED:
        link(bundle / folder.lstrip("/"), Path(folder))
    for rom in build_option_roms(tree, obj):
        link(bundle / OPTION_ROMS.lstrip("/") / rom.name, rom)
