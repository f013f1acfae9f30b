# SPDX-License-Identifier: GPL-2.0-or-later
"""What a server can have beside its own programs: `software` in [server]."""

import sys

import guest


def libvirt():
    """Debian's libvirt, virsh and AppArmor, our docs/libvirt, a guest's disk;
    see tests/libvirt."""
    folder = str(guest.ROOT / "tests/libvirt")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # pylint: disable=import-outside-toplevel
    import guest_disk
    import libvirt_files
    return {**libvirt_files.files(), "root/guest.img": guest_disk.disk()}


KNOWN = {"libvirt": libvirt}


def files(names):
    """{path in the server: file or bytes}"""
    found = {}
    for name in names:
        found |= KNOWN[name]()
    return found
