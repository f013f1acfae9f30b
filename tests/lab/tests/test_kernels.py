# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernel a server gets."""

import contextlib
import pathlib
import types
import unittest
from unittest import mock

from lab import LabError, kernels


def kernel(release):
    return types.SimpleNamespace(release=release)


@contextlib.contextmanager
def debian(own, later):
    """A machine with these kernels; `later` may be an error."""
    newer = mock.Mock(side_effect=[later if isinstance(later, Exception)
                                   else kernel(later)])
    kernels.at_least.cache_clear()
    with mock.patch.object(kernels, "of_release", lambda: kernel(own)), \
            mock.patch.object(kernels, "newer", newer):
        yield newer
    kernels.at_least.cache_clear()


class AtLeast(unittest.TestCase):

    def test_own(self):
        """It does, whatever there is besides."""
        for own, minimum in (("6.1.0-56-amd64", ""), ("6.1.0-56-amd64", "6.1"),
                             ("6.12.1+deb13-amd64", "6.11"),
                             ("7.0.1-amd64", "6.11")):
            with debian(own, "9.9.9") as newer:
                self.assertEqual(kernels.at_least(minimum).release, own)
                newer.assert_not_called()

    def test_newer(self):
        """As numbers: 6.9 is older than 6.11."""
        for own in ("6.1.0-56-amd64", "6.9.7-amd64", "5.19.1-amd64"):
            with debian(own, "6.12.95+deb12-amd64"):
                self.assertEqual(kernels.at_least("6.11").release,
                                 "6.12.95+deb12-amd64")

    def test_refused(self):
        """With both versions, or why there is no other."""
        with debian("6.1.0-56-amd64", "6.12.95+deb12-amd64"), \
                self.assertRaisesRegex(LabError, r"server\.kernel: .*6\.14; .*"
                                       r"6\.1\.0-56-amd64.*6\.12\.95"):
            kernels.at_least("6.14")
        with debian("6.1.0-56-amd64", LabError("no such suite")), \
                self.assertRaisesRegex(LabError, r"6\.11; .*6\.1\.0.*no such "
                                       "suite"):
            kernels.at_least("6.11")


class Backports(unittest.TestCase):
    """Without a network."""

    def made(self, suites=None, depends="", unreachable=False):
        """One on a Debian 12."""
        archive, deps = kernels.installer()
        apt = mock.Mock(options=["-o", "x=y"])
        if unreachable:
            apt.update.side_effect = archive.Refusal("cannot be reached")
        patches = (
            mock.patch.object(archive, "Apt", return_value=apt),
            mock.patch.object(archive, "mirror_of_machine", lambda: "m"),
            mock.patch.object(deps, "codename", lambda: "bookworm"),
            mock.patch.object(kernels, "run", mock.Mock(return_value=depends)))
        if suites is not None:
            patches += (mock.patch.object(deps, "load",
                                          lambda: {"backports": suites}),)
        with contextlib.ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            self.addCleanup(stack.pop_all().close)
        return kernels.Backports()

    def test_package(self):
        found = self.made(depends=f"{kernels.META}\n"
                          "  Depends: linux-image-6.12.95+deb12-amd64\n")
        self.assertEqual(found.package(), "linux-image-6.12.95+deb12-amd64")
        found.download(["a"], pathlib.Path("/nowhere"))
        kernels.run.assert_called_with(
            "apt-get", "-o", "x=y", "-q", "download", "a",
            cwd=pathlib.Path("/nowhere"), timeout=600)

    def test_no_suite(self):
        with self.assertRaisesRegex(LabError, "bookworm has no backports"):
            self.made(suites={})

    def test_no_kernel(self):
        with self.assertRaisesRegex(LabError, "bookworm-backports has no "
                                    "linux-image"):
            self.made().package()

    def test_no_network(self):
        with self.assertRaisesRegex(LabError, "cannot be reached"):
            self.made(unreachable=True).package()
