# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario files: what they may say, and how they are refused."""

import dataclasses
import pathlib
import re
import tempfile
import tomllib
import unittest

from lab import LAB, LabError, images, scenario
from lab.hardware import Hardware

MINIMAL = {"about": "a test", "script": "true"}
DOCS = LAB.parents[1] / "docs"


def parse(**more):
    return scenario.parse("t", {**MINIMAL, **more}, "t.toml")


class Values(unittest.TestCase):

    def test_defaults(self):
        one = parse()
        self.assertEqual((one.name, one.about, one.timeout, one.exact),
                         ("t", "a test", 600, False))
        self.assertEqual((one.server.memory, one.server.cpus), (1024, 1))
        self.assertIsNone(one.meter)
        self.assertEqual([b.script for b in one.boots], ["true"])

    def test_meter_makes_it_exact(self):
        self.assertTrue(parse(meter={}).exact)
        self.assertFalse(parse(meter={}, exact=False).exact)

    def test_boots(self):
        data = {"about": "x", "boot": [{"script": "a", "timeout": 5},
                                       {"script": "b"}]}
        one = scenario.parse("t", data, "t.toml")
        self.assertEqual([(b.script, b.timeout) for b in one.boots],
                         [("a", 5), ("b", 0)])

    def test_nodes_make_the_server(self):
        one = parse(server={"node": [{"memory": 600, "cpus": 2},
                                     {"memory": 400, "latency": 300}]})
        self.assertEqual((one.server.memory, one.server.cpus), (1000, 2))
        self.assertEqual(one.server.node[1].latency, 300)

    def test_ranges_of_the_meter(self):
        for ranges in (["nvm"], {"slow": "nvm"}):
            self.assertEqual(parse(meter={"ranges": ranges}).meter.ranges,
                             ranges)

    def test_guests(self):
        one = parse(guest={"a-1": {}, "b": {"image": "redis", "memory": 64}})
        self.assertEqual(one.guests["a-1"].image, "plain")
        self.assertEqual(one.guests["b"].memory, 64)


class Refused(unittest.TestCase):
    """Each error names the file, the key, and what would be right."""

    def refuse(self, *words, **data):
        with self.assertRaises(LabError) as caught:
            scenario.parse("t", data, "t.toml")
        text = str(caught.exception)
        for word in ("t.toml", *words):
            self.assertIn(word, text)

    def wrong(self, *words, **more):
        self.refuse(*words, **{**MINIMAL, **more})

    def test_about_is_needed(self):
        self.refuse("about", "missing", script="true")

    def test_script_or_boots(self):
        self.refuse("script", "either", about="x")
        self.wrong("script", "either", boot=[{"script": "a"}])

    def test_boot_without_script(self):
        self.refuse("boot[1].script", "missing", about="x",
                    boot=[{"script": "a"}, {"timeout": 3}])

    def test_script_is_text(self):
        self.refuse("script", "3", "text", about="x", script=3)

    def test_unknown_keys_and_the_nearest(self):
        self.wrong("scripts", "did you mean 'script'", scripts="x")
        self.wrong("server.memroy", "'memory'", server={"memroy": 1})
        self.wrong("guest.vm.imgae", "'image'", guest={"vm": {"imgae": "x"}})
        self.wrong("meter.lcc", "'llc'", meter={"lcc": "1M:16"})
        self.wrong("qqqqq", "there are", qqqqq=1)

    def test_kinds(self):
        for value in (-1, True, "600", 1.5):
            self.wrong("timeout", "number, not negative", timeout=value)
        self.wrong("exact", "true or false", exact=1)
        self.wrong("server", "a table", server=[])
        self.wrong("server.cpus", "number", server={"cpus": "2"})
        self.wrong("server.modules", "a list", server={"modules": "kmem"})
        self.wrong("meter.pages", "true or false", meter={"pages": 1})
        self.wrong("checks", "a list", checks="a > 0")
        self.wrong("checks", "1", "quotes", checks=[1])
        self.wrong("server.software", "libvirt", server={"software": ["xen"]})

    def test_ranges(self):
        self.wrong("server.reserved.Dram", "lower-case",
                   server={"reserved": {"Dram": 1}})
        self.wrong("server.reserved.a-b", "lower-case",
                   server={"reserved": {"a-b": 1}})
        self.wrong("server.nvdimm.nvm", "multiple of 16",
                   server={"nvdimm": {"nvm": 24}})
        for size in (0, -16, True, "16"):
            self.wrong("server.nvdimm.nvm", "MiB",
                       server={"nvdimm": {"nvm": size}})
        self.wrong("server.nvm", "rename",
                   server={"nvdimm": {"nvm": 16}, "reserved": {"nvm": 1}})

    def test_server(self):
        self.wrong("server.memory", "511", "512", server={"memory": 511})

    def test_kernel(self):
        self.assertEqual(parse(server={"kernel": "6.11"}).server.kernel,
                         "6.11")
        for kernel in ("backports", "6", "6.11.2", "6.11 "):
            self.wrong("server.kernel", repr(kernel), "6.11",
                       server={"kernel": kernel})
        self.wrong("server.kernel", "a text", server={"kernel": 6.11})

    def test_nodes(self):
        node = {"memory": 600, "cpus": 1}
        self.wrong("server.memory", "nodes",
                   server={"memory": 600, "node": [node]})
        self.wrong("server.cpus", "nodes",
                   server={"cpus": 1, "node": [node]})
        self.wrong("node[0]", "cpus", server={"node": [{"memory": 600}]})
        self.wrong("server.node[1]", "memory = MiB or nvdimm",
                   server={"node": [node, {"cpus": 1}]})

    def test_nodes_of_nvdimms(self):
        first = {"memory": 600, "cpus": 1}

        def wrong(*words, nodes):
            self.wrong(*words, server={"nvdimm": {"nvm": 256},
                                       "node": [first, *nodes]})

        wrong("server.node[1]", "memory = MiB or nvdimm",
              nodes=[{"memory": 16, "nvdimm": "nvm"}])
        wrong("server.node[1]", "'nwm'", "there are nvm",
              nodes=[{"nvdimm": "nwm"}])
        wrong("server.node[1]", "no CPUs", nodes=[{"nvdimm": "nvm",
                                                   "cpus": 1}])
        wrong("server.node[2]", "'nvm'", "before it",
              nodes=[{"nvdimm": "nvm"}, {"nvdimm": "nvm"}])
        self.wrong("server.node[0]", "there are none",
                   server={"node": [{"cpus": 1, "nvdimm": "nvm"}]})

    def test_guest_names(self):
        for name in ("VM", "1vm", "a b"):
            self.wrong(f"guest.{name}", "lower-case", guest={name: {}})


class Files(unittest.TestCase):

    def test_of_no_such_name(self):
        with self.assertRaisesRegex(LabError, "'nosuch'.*there are.*hello"):
            scenario.load("nosuch")

    def test_a_path(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "mine.toml"
            path.write_text('about = "x"\nscript = "true"\n')
            self.assertEqual(scenario.load(str(path)).name, "mine")
            path.write_text("about = \n")
            with self.assertRaisesRegex(LabError, "mine.toml.*line 1"):
                scenario.load(str(path))

    def test_all_that_are_there(self):
        known = images.names()
        for name in scenario.names():
            with self.subTest(name):
                one = scenario.load(name)
                Hardware(one.server)
                for guest in one.guests.values():
                    self.assertIn(guest.image, known)


class Documented(unittest.TestCase):
    """docs/lab.md says all that there is."""

    @classmethod
    def setUpClass(cls):
        cls.text = (DOCS / "lab.md").read_text(encoding="utf-8")

    def test_example(self):
        example = re.search(r"```toml\n(.*?)```", self.text, re.S)[1]
        one = scenario.parse("mine", tomllib.loads(example), "lab.md")
        Hardware(one.server)
        self.assertIn(one.guests["vm"].image, images.names())

    def test_keys(self):
        keys = [f.name for cls in (scenario.Server, scenario.Node,
                                   scenario.Meter, scenario.Guest,
                                   scenario.Boot)
                for f in dataclasses.fields(cls)]
        for key in {*keys, *scenario.KEYS}:
            with self.subTest(key):
                self.assertTrue(re.search(rf"[`\[.]{key}[`\].]", self.text))

    def test_functions(self):
        library = (LAB / "server/lib.sh").read_text(encoding="utf-8")
        for name in re.findall(r"^([a-z]\w*)\(\)", library, re.M):
            if not name.startswith("lab_"):
                with self.subTest(name):
                    self.assertTrue(re.search(rf"`{name}[ `]", self.text))

    def test_images(self):
        for name in images.BUILT_IN:
            with self.subTest(name):
                self.assertTrue(f"`{name}`" in self.text)
