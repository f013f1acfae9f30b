# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ./configure: one clear sentence for every error."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def configure(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ./configure."""
    return subprocess.run([str(REPO / "configure"), *args], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          env={**os.environ, "HYBRIDMEM_NO_DEPS": "1", **env},
                          check=False, timeout=60)


class Configure(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.top = Path(folder.name)
        self.build = self.top / "build"

    def refuses(self, expected: str, *args: str, **env: str) -> None:
        """It must fail with one sentence and make no build folder."""
        done = configure(f"--build-dir={self.build}", *args, **env)
        self.assertEqual(done.returncode, 1, done.stderr)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("configure: "), lines[0])
        self.assertIn(expected, lines[0])
        self.assertFalse(self.build.exists())

    def qemu(self, version: str) -> Path:
        """A tree that looks like QEMU from afar."""
        tree = self.top / f"qemu-{version}"
        tree.mkdir()
        (tree / "VERSION").write_text(version + "\n")
        (tree / "configure").write_text("#!/bin/sh\n")
        return tree

    def test_unknown_base(self) -> None:
        self.refuses("there are 10.0, 10.2", "--base=9.9")

    def test_path_does_not_exist(self) -> None:
        self.refuses("does not exist", f"--qemu-src={self.top}/none")

    def test_not_a_qemu_tree(self) -> None:
        (self.top / "empty").mkdir()
        self.refuses("not a QEMU source tree",
                     f"--qemu-src={self.top}/empty")

    def test_unsupported_series(self) -> None:
        self.refuses("is QEMU 8.2.1", f"--qemu-src={self.qemu('8.2.1')}")

    def test_base_and_source_disagree(self) -> None:
        self.refuses("does not go with", "--base=10.2",
                     f"--qemu-src={self.qemu('10.0.1')}")

    def test_hooks_do_not_fit(self) -> None:
        self.refuses("the tree has no", f"--qemu-src={self.qemu('10.0.1')}")

    def test_missing_package(self) -> None:
        fake = self.top / "bin"
        fake.mkdir()
        query = fake / "dpkg-query"
        query.write_text("#!/bin/sh\nexit 1\n")
        query.chmod(0o755)
        path = f"{fake}:{os.environ['PATH']}"
        self.refuses("run qemu/deps build", PATH=path, HYBRIDMEM_NO_DEPS="")

    def test_no_network(self) -> None:
        mirror = "http://127.0.0.1:9/debian"
        done = subprocess.run(
            ["/usr/bin/python3", "-c",
             "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
             "import archive, refusal\n"
             "pin = archive.Pin('10.0', ('trixie',), '1:10.0.0+ds-1', '', '')\n"
             "archive.say = lambda text: None\n"
             "try: archive.fetch(pin, pathlib.Path(sys.argv[2]))\n"
             "except refusal.Refusal as r: print(r)",
             str(REPO / "qemu"), str(self.top)],
            env={**os.environ, "HYBRIDMEM_MIRROR": mirror}, text=True,
            capture_output=True, check=False, timeout=60)
        self.assertIn("cannot be reached", done.stdout, done.stderr)

    def test_dry_run_of_a_tarball(self) -> None:
        tar = self.top / "qemu.tar"
        with tarfile.open(tar, "w") as file:
            file.add(self.qemu("7.1.0"), "qemu-7.1.0")
        done = configure(f"--build-dir={self.build}", "--dry-run",
                         f"--qemu-src={tar}")
        self.assertIn("is QEMU 7.1.0", done.stderr)
        self.assertFalse(self.build.exists())

    def test_help(self) -> None:
        done = configure("--help")
        self.assertEqual(done.returncode, 0)
        for option in ("--base", "--qemu-src", "--link", "--dry-run"):
            self.assertIn(option, done.stdout)


if __name__ == "__main__":
    unittest.main()
