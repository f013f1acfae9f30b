# SPDX-License-Identifier: GPL-2.0-or-later
"""Getting a base: the mirror, the pins, what the archive may no longer have."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import archive
from archive import Pin
from refusal import Refusal

VERSION = "1:10.0.9+ds-0+deb13u1"
NEWER = "1:10.0.10+ds-0+deb13u1"


class FakeApt:
    """Stands in for apt: what is listed, and what can be had."""

    listed: list[str] = []
    there: set[str] = set()
    network = True

    def __init__(self, folder: Path, lines: list[str]):
        del folder, lines

    def update(self) -> None:
        """Fetch the lists."""
        if not self.network:
            raise Refusal("Debian's archive cannot be reached")


def fake_download(apt: FakeApt, version: str, folder: Path) -> bool:
    """Put the three files of a version in place if it is there."""
    if version not in apt.there:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    archive.dsc_of(folder, version).write_text("dsc")
    archive.orig_of(folder, version).write_text("orig")
    archive.debian_tar_of(folder, version).write_text("debian")
    return True


class Fetching(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.build = Path(folder.name)
        for name, value in (
                ("Apt", FakeApt), ("download", fake_download),
                ("say", lambda text: None),
                ("source_lines", lambda suites: []),
                ("listed", lambda apt, series: FakeApt.listed)):
            patch = mock.patch.object(archive, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        FakeApt.listed, FakeApt.there = [VERSION], {VERSION}
        FakeApt.network = True
        self.pin = self.pinned("dsc", "orig")

    @staticmethod
    def pinned(dsc: str, orig: str) -> Pin:
        """A pin on files with these contents."""
        digest = archive.hashlib.sha256
        return Pin("10.0", ("trixie",), VERSION,
                   digest(dsc.encode()).hexdigest(),
                   digest(orig.encode()).hexdigest())

    def test_pinned(self) -> None:
        self.assertEqual(archive.fetch(self.pin, self.build), [VERSION])

    def test_again_without_network(self) -> None:
        archive.fetch(self.pin, self.build)
        FakeApt.network = False
        self.assertEqual(archive.fetch(self.pin, self.build), [VERSION])

    def test_no_network(self) -> None:
        FakeApt.network = False
        with self.assertRaisesRegex(Refusal, "cannot be reached"):
            archive.fetch(self.pin, self.build)

    def test_wrong_sha256(self) -> None:
        with self.assertRaisesRegex(Refusal, "is pinned in qemu/bases.toml"):
            archive.fetch(self.pinned("dsc", "other"), self.build)

    def test_replaced_by_a_newer_one(self) -> None:
        FakeApt.listed, FakeApt.there = [NEWER], {NEWER}
        self.assertEqual(archive.fetch(self.pin, self.build), [NEWER])

    def test_listed_but_not_there(self) -> None:
        FakeApt.listed, FakeApt.there = [NEWER, VERSION], {NEWER}
        self.assertEqual(archive.fetch(self.pin, self.build), [NEWER])

    def test_gone(self) -> None:
        FakeApt.there = set()
        for FakeApt.listed in ([], [VERSION]):
            with self.assertRaisesRegex(Refusal, "gone from Debian's archive"):
                archive.fetch(self.pin, self.build)

    def test_newest_first(self) -> None:
        self.assertLess(archive.version_key(VERSION),
                        archive.version_key(NEWER))


class Mirrors(unittest.TestCase):
    def find(self, name: str, text: str) -> str:
        """The mirror of a machine with one file of apt sources."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            with mock.patch.dict(os.environ):
                os.environ.pop("HYBRIDMEM_MIRROR", None)
                return archive.mirror_of_machine(Path(folder))

    def test_one_line(self) -> None:
        self.assertEqual(self.find("sources.list", """
# deb http://old/debian bookworm main
deb https://other.example/apt nodistro main
deb http://sec.example/debian-security bookworm-security main
deb [arch=amd64] http://m.example/debian/ bookworm contrib main
"""), "http://m.example/debian")

    def test_deb822(self) -> None:
        self.assertEqual(self.find("sources.list.d/debian.sources", """
Types: deb
URIs: https://other.example
Suites: nodistro
Components: main

# a comment: here
Types: deb
URIs: http://m.example/debian
# another
Suites: trixie trixie-updates
Components: main contrib
"""), "http://m.example/debian")

    def test_none(self) -> None:
        with self.assertRaisesRegex(Refusal, "no Debian mirror"):
            self.find("sources.list", "deb http://x.example/ubuntu noble main")

    def test_given(self) -> None:
        with mock.patch.dict(os.environ, HYBRIDMEM_MIRROR="http://g.example/"):
            self.assertEqual(archive.mirror_of_machine(Path("/nonexistent")),
                             "http://g.example")


class Tarballs(unittest.TestCase):
    def test_not_a_tarball(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "x.tar").write_text("no")
            with mock.patch.object(archive, "say", lambda text: None):
                with self.assertRaisesRegex(Refusal, "nor a tarball"):
                    archive.from_tarball(folder / "x.tar", folder / "own")
            self.assertFalse((folder / "own").exists())


if __name__ == "__main__":
    unittest.main()
