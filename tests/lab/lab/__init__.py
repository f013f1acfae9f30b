# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab: scenarios in an emulated hybrid-memory server; docs/lab.md.

    scenario    the scenario files: what they may say
    hardware    where memory lies in the server, QEMU's options for it
    kernels     the server's kernel: the release's own, or a newer one
    rootfs      the server's initramfs
    images      the guests' kernels and initramfs
    server      one boot of the server: the process, what it says
    checks      expressions over results
    results     TAP lines, files under build/lab/results
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1])] * (str(HERE.parents[1]) not in sys.path)

from guest import ROOT, GuestError, say                         # noqa: E402

LAB = ROOT / "tests" / "lab"
BUILD = ROOT / "build" / "lab"


class LabError(GuestError):
    """A sentence for the user."""


from .images import guest_image                                 # noqa: E402
