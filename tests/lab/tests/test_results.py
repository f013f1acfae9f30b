# SPDX-License-Identifier: GPL-2.0-or-later
"""What boots of the server say, and what is made of it."""

import base64
import json
import pathlib
import tempfile
import unittest
import unittest.mock

from lab import LabError, results, rootfs, scenario, server
from lab.hardware import Hardware

METER = {"version": 1, "phases": [
    {"phase": 2, "ranges": [{"range": "dram", "stores": 1,
                             "vcpus": [{"vcpu": 0, "stores": 1}]},
                            {"range": "nvm", "stores": 2, "vcpus": []}]}],
    "total": {"ranges": [{"range": "other", "stores": 3}]}}


class Folder(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)


class ByName(Folder):

    def test_lists_become_tables(self):
        found = results.by_name(METER)
        self.assertEqual(found["phases"]["2"]["ranges"]["nvm"]["stores"], 2)
        self.assertEqual(found["total"]["ranges"]["other"]["stores"], 3)
        self.assertEqual(found["version"], 1)

    def test_other_lists_stay(self):
        self.assertEqual(results.by_name({"a": [1, {"b": []}], "phases": []}),
                         {"a": [1, {"b": []}], "phases": []})
        self.assertEqual(
            results.by_name(METER)["phases"]["2"]["ranges"]["dram"]["vcpus"],
            [{"vcpu": 0, "stores": 1}])
        mixed = [{"range": "a"}, {"other": 1}]
        self.assertEqual(results.by_name(mixed), mixed)

    def test_read_meter(self):
        self.assertIsNone(results.read_meter(self.folder, 0))
        path = self.folder / "meter-0.json"
        path.write_text('{"phases": [')
        self.assertIsNone(results.read_meter(self.folder, 0))
        path.write_text(json.dumps(METER))
        self.assertEqual(list(results.read_meter(self.folder, 0)["phases"]),
                         ["2"])


class Hear(Folder):
    """The lines that server/lib.sh sends."""

    def hear(self, *lines):
        boot = server.Boot(self.folder, 0)
        for line in lines:
            boot.hear(line, 1.26)
        return boot

    def test_results(self):
        boot = self.hear("boot", "result moves 12", 'result text "a \\" b"',
                         'result_not', 'result info {"a": [1, 2]}', "end")
        self.assertEqual(boot.results, {"moves": 12, "text": 'a " b',
                                        "info": {"a": [1, 2]}})
        self.assertTrue(boot.ended)
        self.assertIsNone(boot.failure)
        self.assertEqual(boot.times[1], (1.3, "result moves 12"))

    def test_tests(self):
        boot = self.hear("ok all is well", "not_ok this is not")
        self.assertEqual(boot.tests, [(True, "all is well"),
                                      (False, "this is not")])

    def test_no_json(self):
        for line in ("result a", "result a {", "result a one", "result"):
            boot = self.hear(line, "end")
            self.assertIn("no JSON", boot.failure, line)

    def test_die(self):
        boot = self.hear("die vm: it is gone", "die the second word")
        self.assertEqual(boot.failure, "vm: it is gone")
        self.assertFalse(boot.ended)

    def test_broken_lines(self):
        boot = self.hear("", " ", "nonsense", "\ufffd\ufffd", "note x",
                         "mark 1", "ok")
        self.assertEqual((boot.results, boot.failure, boot.ended),
                         ({}, None, False))
        self.assertEqual(boot.tests, [(True, "")])

    def test_file(self):
        data = bytes(range(256)) * 3
        lines = base64.encodebytes(data).decode().splitlines()
        boot = self.hear("file a.bin", *lines, ".", "result after 1")
        self.assertEqual((self.folder / "a.bin").read_bytes(), data)
        self.assertEqual(boot.results, {"after": 1})

    def test_file_holds_no_other_lines(self):
        boot = self.hear("file a", "end", "A", ".")
        self.assertFalse(boot.ended)

    def test_empty_file(self):
        self.hear("file a", ".")
        self.assertEqual((self.folder / "a").read_bytes(), b"")

    def test_file_stays_in_the_folder(self):
        self.hear("file ../../b", "YQ==", ".")
        self.assertEqual((self.folder / "b").read_bytes(), b"a")

    def test_file_broken_off(self):
        boot = self.hear("file a", "YQ==")
        self.assertFalse(boot.ended)
        self.assertFalse((self.folder / "a").exists())

    def test_file_with_a_lost_character(self):
        boot = self.hear("file a", "YWI", ".", "end")
        self.assertIn("file a", boot.failure)


class Listener(Folder):

    def test_whole_lines_only(self):
        path = self.folder / "events"
        listener = server.Listener(path)
        self.assertEqual(listener.lines(), [])
        with open(path, "wb", buffering=0) as f:
            f.write(b"ok a\r\nok ")
            self.assertEqual(listener.lines(), ["ok a"])
            self.assertEqual(listener.lines(), [])
            f.write(b"b\nend\n\xff\n")
            self.assertEqual(listener.lines(), ["ok b", "end", "\ufffd"])


class Explain(Folder):

    def explain(self, console="", log="", code=0):
        (self.folder / "c").write_text(console)
        (self.folder / "l").write_text(log)
        return server.explain(None, self.folder / "c", self.folder / "l",
                              code)

    def test_why(self):
        self.assertIn("panicked", self.explain("x\nKernel panic - no\ny\n"))
        self.assertEqual(self.explain(log="a\nb\nqemu: no such option",
                                      code=1),
                         "the outer QEMU failed: b; qemu: no such option")
        self.assertIn("before the script did", self.explain())


def scenario_of(**more):
    return scenario.parse("t", {"about": "x", "script": "true", **more},
                          "t.toml")


class Command(Folder):
    """The outer QEMU's command line."""

    def command(self, one, **keys):
        plugin = self.folder / "contrib/plugins/libhybridmem-meter.so"
        plugin.parent.mkdir(parents=True, exist_ok=True)
        plugin.touch()
        image = rootfs.Image(pathlib.Path("/k"), pathlib.Path("/i"), {})
        return " ".join(server.command(
            one, image, pathlib.Path("/i"), self.folder,
            folder=self.folder, **{"boot": 0, **keys}))

    def test_exact(self):
        words = self.command(scenario_of(exact=True, server={"shift": 2}))
        for word in ("-accel tcg,thread=single", "-icount shift=2,sleep=off",
                     "-seed 7", "clock=vm,base=2026-01-01", "-rdrand,-rdseed",
                     "-erms,-fsrm", "nokaslr norandmaps", "hpet=off"):
            self.assertIn(word, words)
        self.assertNotIn("-plugin", words)

    def test_fast(self):
        words = self.command(scenario_of())
        self.assertIn("thread=multi", words)
        self.assertNotIn("-icount", words)
        self.assertNotIn("clock=vm", words)

    def test_meter(self):
        words = self.command(scenario_of(
            server={"memory": 640, "reserved": {"dram": 32, "nvm": 224}},
            meter={"llc": "1M:16", "when": "marked", "pages": True,
                   "epoch": 5, "memory_mode": "nvm:32M"}), boot=3)
        for word in ("range=dram:0x10000000:0x2000000",
                     "range=nvm:0x12000000:0xe000000", "llc=1M:16",
                     "when=marked", "epoch=5", "memory-mode=nvm:32M",
                     f"pages={self.folder}/pages-3",
                     f"out={self.folder}/meter-3.json"):
            self.assertIn(word, words)
        self.assertNotIn("l1=", words)

    def test_shell_has_no_meter_and_no_exact_time(self):
        words = self.command(scenario_of(meter={}), interactive=True)
        self.assertNotIn("-plugin", words)
        self.assertNotIn("-icount", words)
        self.assertIn("lab.boot=shell", words)

    def test_meter_not_built(self):
        with self.assertRaisesRegex(LabError, "make lab"):
            server.meter_path(self.folder)

    def test_ranges(self):
        def ranges(what):
            one = scenario_of(server={"memory": 640,
                                      "reserved": {"dram": 32, "nvm": 16}})
            return server.meter_ranges(scenario.Meter(ranges=what),
                                       Hardware(one.server))

        self.assertEqual(ranges(["nvm"]), ["range=nvm:0x12000000:0x1000000"])
        self.assertEqual(ranges({"slow": "nvm"}),
                         ["range=slow:0x12000000:0x1000000"])
        self.assertEqual(ranges({"first": "0x0:1M"}), ["range=first:0x0:1M"])
        self.assertEqual(len(ranges(None)), 2)      # and no node
        with self.assertRaisesRegex(LabError, "'nosuch'.*dram, nvm"):
            ranges(["nosuch"])


class Guest(unittest.TestCase):

    def test_command(self):
        one = scenario_of(guest={"vm": {
            "memory": 64, "params": 'hm.run="a b"',
            "options": "\n-object x,at=$dram_start\n-no-shutdown\n"}})
        text = rootfs.guest_command("vm", one.guests["vm"], "plain")
        self.assertIn("-accel kvm", text)
        self.assertIn("-m 64M", text)
        self.assertIn(' hm.run="a b"\'', text)      # one word of the shell
        self.assertTrue(text.endswith(
            " -object x,at=$dram_start -no-shutdown\n"))
        self.assertEqual(text.count("\n"), 1)

    def test_no_memory(self):
        one = scenario_of(guest={"vm": {}})
        self.assertNotIn("-m ", rootfs.guest_command(
            "vm", one.guests["vm"], "plain"))

    def test_archives_are_padded(self):
        for n in range(5):
            self.assertEqual(len(rootfs.pad(bytes(n))) % 4, 0)


class Again(Folder):
    """Runs that the emulator has lost."""

    def run_it(self, *consoles, exact=False):
        """The run, and how many there were, each with the next console."""
        made = []

        def execute(run):
            console = consoles[len(made)]
            made.append(run)
            boot = server.Boot(run.folder, 0)
            boot.failure = "the server's kernel panicked" if console else None
            run.boots.append(boot)
            (run.folder / "console-0").write_text(console)

        with unittest.mock.patch.multiple(
                results.Run, execute=execute, judge=lambda run: None,
                save=lambda run: None):
            return results.run_scenario(scenario_of(exact=exact), None,
                                        self.folder), len(made)

    def test_once(self):
        for console in "", "x\nKernel panic - not syncing\n":
            run, runs = self.run_it(console)
            self.assertEqual((runs, run.lost), (1, None))

    def test_again(self):
        lost = f"[ 70.0] {results.LOST}: qemu/149/0x00110001\n"
        run, runs = self.run_it(lost, "")
        self.assertEqual(runs, 2)
        self.assertEqual((run.lost / "console-0").read_text(), lost)
        self.assertEqual((run.folder / "console-0").read_text(), "")
        # The second counts, whatever becomes of it.
        self.assertEqual(self.run_it(lost, lost)[1], 2)

    def test_exact_ones_stay(self):
        self.assertEqual(self.run_it(f"{results.LOST}\n", exact=True)[1], 1)


class Judge(Folder):
    """Lines of a run."""

    def lines(self, *heard, **more):
        run = results.Run(scenario_of(**more), self.folder, None)
        for number, lines in enumerate(heard):
            boot = server.Boot(self.folder, number)
            for line in lines:
                boot.hear(line, 0)
            run.boots.append(boot)
            run.meters.append(results.by_name(METER))
        run.judge()
        return run.lines

    def test_nothing_to_judge(self):
        self.assertEqual(self.lines(["end"]), [(True, "ran to its end")])

    def test_tests_then_checks(self):
        self.assertEqual(
            self.lines(["result a 1", "ok x"], ["result b 2", "not_ok y"],
                       checks=["a < b", "meter.phases[2].ranges.nvm.stores"
                               " == meters[0].phases[2].ranges.nvm.stores"]),
            [(True, "x"), (False, "y"), (True, "a < b (a = 1, b = 2)"),
             (True, "meter.phases[2].ranges.nvm.stores == "
              "meters[0].phases[2].ranges.nvm.stores "
              "(meter.phases[2].ranges.nvm.stores = 2, "
              "meters[0].phases[2].ranges.nvm.stores = 2)")])

    def test_a_failure_ends_it(self):
        self.assertEqual(self.lines(["ok x", "die it broke"],
                                    checks=["nosuch"]),
                         [(True, "x"), (False, "it broke")])

    def test_a_folder_for_one(self):
        with results.folder_for(self.folder / "a") as folder:
            (folder / "old").touch()
            with self.assertRaisesRegex(LabError, "--out"):
                with results.folder_for(self.folder / "a"):
                    pass
        with results.folder_for(self.folder / "a") as folder:
            self.assertEqual(list(folder.iterdir()), [])

    def test_no_paths_of_this_machine(self):
        root = str(results.guest.ROOT)
        self.assertEqual(server.versions_free_of_paths(
            [f"{root}/build/x", f"out={root}/y"]), ["build/x", "out=y"])
