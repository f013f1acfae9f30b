# SPDX-License-Identifier: GPL-2.0-or-later
"""server/numapages.c and fillnode.c on this machine, whatever its nodes."""

import mmap
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from lab import LAB
from lab.rootfs import CFLAGS

USAGE = 64
PAGE = mmap.PAGESIZE
PAGES = 64
NUMA_MAPS = pathlib.Path("/proc/self/numa_maps")


class Numa(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        for name in ("numapages", "holdpages", "fillnode"):
            subprocess.run(
                [*os.environ.get("CC", "cc").split(), *CFLAGS, "-Wextra",
                 "-o", f"{cls.folder.name}/{name}",
                 LAB / f"server/{name}.c"], check=True)

    def run_it(self, name, *words):
        return subprocess.run(
            [f"{self.folder.name}/{name}", *map(str, words)], text=True,
            capture_output=True, timeout=20, check=False)

    def test_usage(self):
        for words in (["numapages"], ["numapages", "maps", 1, 0],
                      ["numapages", "move", 1, 0, PAGE],
                      ["numapages", "maps", 1, 0, 0],
                      ["numapages", "maps", 1, 1, PAGE],
                      ["holdpages"], ["holdpages", "x", 0], ["fillnode"],
                      ["fillnode", -1], ["fillnode", 0, 1, 2]):
            with self.subTest(words):
                self.assertEqual(self.run_it(*words).returncode, USAGE)


class Range:
    """A mapping of this process, of which some pages are there."""

    def __init__(self, folder, touched):
        self.file = tempfile.TemporaryFile(dir=folder)
        self.file.truncate(PAGES * PAGE)
        # Of a file, so that it is not merged with another mapping.
        self.map = mmap.mmap(self.file.fileno(), PAGES * PAGE)
        for page in range(touched):
            self.map[page * PAGE] = 1
        inode = os.fstat(self.file.fileno()).st_ino
        for line in pathlib.Path("/proc/self/maps").read_text().splitlines():
            if line.split()[4] == str(inode):
                self.start = int(line.split("-")[0], 16)


@unittest.skipUnless(NUMA_MAPS.exists(), "a kernel without NUMA")
class Maps(Numa):

    def maps(self, start, size):
        done = self.run_it("numapages", "maps", os.getpid(), hex(start), size)
        found = dict(re.findall(r"(\w+)=(\S+)", done.stdout))
        return done, found

    def test_sum(self):
        # Far enough apart that a fault maps no neighbours, too.
        for touched in (0, PAGES):
            with self.subTest(touched):
                ours = Range("/dev/shm", touched)
                done, found = self.maps(ours.start, PAGES * PAGE)
                self.assertEqual(done.returncode, 0, done.stderr)
                nodes = sum(int(found[f"n{i}"]) for i in range(8))
                self.assertEqual(nodes, touched * PAGE)
                self.assertEqual(int(found["absent"]),
                                 (PAGES - touched) * PAGE)
                self.assertEqual(found["policy"], "'default'")

    def test_beyond_the_range(self):
        ours = Range("/dev/shm", 1)
        done, _ = self.maps(ours.start, PAGE)
        self.assertEqual(done.returncode, 2)
        self.assertIn("not as a whole", done.stderr)

    def test_nothing_there(self):
        done, _ = self.maps(PAGE, PAGE)
        self.assertEqual(done.returncode, 2)
        self.assertIn("nothing is mapped", done.stderr)


if __name__ == "__main__":
    unittest.main()
