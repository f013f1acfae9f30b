# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's libvirt as files of a root of its own: nothing is installed on the
machine, and the machine's own libvirt, if it has one, is not touched.

The lab's server takes these files, too (`software = ["libvirt"]`)."""

import os
import pathlib
import re

import guest
from guest.image import BUILD, Image, locked, package, run, unpack

HERE = pathlib.Path(__file__).resolve().parent
DOCS = guest.ROOT / "docs/libvirt"
LIBRARIES = "lib/x86_64-linux-gnu"
DRIVERS = "usr/lib/x86_64-linux-gnu/libvirt/connection-driver"

# Debian 12 has some of them, Debian 13 others.
PACKAGES = ("libvirt-daemon", "libvirt-daemon-system", "libvirt-daemon-common",
            "libvirt-daemon-log", "libvirt-daemon-driver-qemu",
            "libvirt-clients", "libvirt-common", "libvirt0", "apparmor",
            "dmidecode")
PROGRAMS = ("usr/sbin/libvirtd", "usr/sbin/virtlogd", "usr/bin/virsh",
            "usr/lib/libvirt/libvirt_iohelper",
            "usr/lib/libvirt/virt-aa-helper", "usr/sbin/dmidecode",
            "sbin/apparmor_parser", f"{DRIVERS}/libvirt_driver_qemu.so")
DATA = ("usr/share/libvirt/cpu_map", "usr/share/libvirt/schemas",
        "etc/libvirt", "etc/apparmor.d", "etc/apparmor",
        "usr/share/apparmor-features")
KEYMAP = "usr/share/qemu/keymaps/en-us"         # for VNC

# As Debian's libvirt-daemon-system makes them.
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
                  "libvirt-qemu:x:64055:103::/var/lib/libvirt:/bin/false\n",
    "etc/group": "root:x:0:\nkvm:x:103:\nlibvirt:x:104:\n"
                 "libvirt-qemu:x:64055:libvirt-qemu\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\n",
}


def known_packages():
    """Those of PACKAGES that apt knows, and all libraries that they need."""
    there = set(run("apt-cache", "pkgnames").split())
    found = [name for name in PACKAGES if name in there]
    if "libvirt-daemon" not in found:
        raise guest.GuestError("apt knows no libvirt: run apt-get update")
    names, new = set(found), found
    while new:
        text = run("apt-cache", "depends", "--important", *new)
        needs = re.findall(r"^ *\|?(?:Pre)?Depends: ((?:lib|zlib)\S+)$", text,
                           re.M)
        new = sorted({n for n in needs if n not in names
                      and not n.startswith("libvirt-")})
        names.update(new)
    return sorted(names)


def tree():
    """The folder that all of them are unpacked in, fetched once."""
    target = BUILD / "packages" / "libvirt"
    with locked():
        if not target.exists():
            unpack(known_packages(), target)
    return target


def libraries(root, binaries):
    """{path: file} of what the packages' own dynamic linker loads."""
    places = [root / LIBRARIES, root / "usr" / LIBRARIES]
    loader = next(p for d in places for p in d.glob("ld-linux-x86-64.so.2"))
    command = [loader, "--inhibit-cache", "--library-path",
               ":".join(map(str, places)), "--list"]
    files = {"lib64/ld-linux-x86-64.so.2": loader}
    for binary in binaries:
        for name, path in re.findall(r"(\S+) => (/\S+)",
                                     run(*command, binary)):
            files[f"{LIBRARIES}/{os.path.basename(name)}"] = \
                pathlib.Path(path)
    return files


def below(root, folder):
    """All files of a folder; an empty folder stays as one, by a hidden file."""
    found = {}
    for path in sorted((root / folder).rglob("*")):
        name = str(path.relative_to(root))
        if path.is_file():
            found[name] = path
        elif path.is_dir() and not any(path.iterdir()):
            found[f"{name}/.keep"] = b""
    return found


def files():
    """{path in the root: file or bytes}: daemons, virsh, their settings as
    Debian delivers them, our docs/libvirt, and the steps of the tests."""
    root = tree()
    found = {}
    for name in PROGRAMS:
        usr = name if (root / name).exists() else "usr/" + name
        if (root / usr).exists():
            found[name] = root / usr
    found |= libraries(root, list(found.values()))
    for folder in DATA:
        found |= below(root, folder)
    found |= {path: text.encode() for path, text in ACCOUNTS.items()}
    found |= {f"root/hybridmem/docs/libvirt/{path}": file
              for path, file in below(DOCS, ".").items()}
    for name in ("steps.sh", "virt-install.xml"):
        found[f"root/{name}"] = HERE / name
    found[KEYMAP] = package("qemu-system-data") / KEYMAP
    return found


def version():
    """Of the unpacked libvirt."""
    names = (tree() / "usr" / LIBRARIES).glob("libvirt.so.0.*")
    found = [re.search(r"\.so\.0\.(\d+)\.(\d+)$", p.name) for p in names]
    number, patch = next((int(m[1]), m[2]) for m in found if m)
    return f"{number // 1000}.{number % 1000}.{patch}"
