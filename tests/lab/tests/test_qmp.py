# SPDX-License-Identifier: GPL-2.0-or-later
"""server/qmp.c against a QMP server that says what a test wants."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from lab import LAB

GREETING = '{"QMP": {"version": {}, "capabilities": []}}'
DONE = '{"return": {}}'
EVENT = '{"event": "STOP", "timestamp": {"seconds": 1}, "data": {}}'
REFUSED, NO_VALUE, NO_QEMU, USAGE = 1, 2, 3, 64
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0:exitcode=99",
               "UBSAN_OPTIONS": "halt_on_error=1:exitcode=99"}


class FakeQemu(threading.Thread):
    """Says the greeting, then for each line that it is sent one of
    `answers`, a list of lines each; then hangs up."""

    def __init__(self, path, *answers, delay=0.0):
        super().__init__(daemon=True)
        self.path, self.answers, self.delay = path, answers, delay
        self.heard = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        if not delay:
            self._listen()
        self.start()

    def _listen(self):
        self.socket.bind(self.path)
        self.socket.listen(1)

    def run(self):
        if self.delay:
            time.sleep(self.delay)
            self._listen()
        peer, _ = self.socket.accept()
        with self.socket, peer, peer.makefile("rw", newline="\n") as file:
            file.write(GREETING + "\r\n")
            for lines in self.answers:
                file.flush()
                self.heard.append(file.readline().strip())
                for line in lines:
                    file.write(line + "\r\n")


class Qmp(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.root = pathlib.Path(cls.folder.name)
        cls.program = cls.root / "qmp"
        # Reading behind the end of what came would not show otherwise.
        subprocess.run(
            [*os.environ.get("CC", "cc").split(), "-O1", "-g", "-Wall",
             "-Wextra", "-Werror", "-fsanitize=address,undefined",
             "-o", cls.program, LAB / "server/qmp.c"], check=True)

    def run_qmp(self, *words, **keys):
        return subprocess.run([self.program, *words], capture_output=True,
                              text=True, timeout=20, check=False,
                              env=ENVIRONMENT, **keys)

    def ask(self, *words, answer=(DONE,), delay=0.0):
        """(exit status, standard output, what the server heard)."""
        path = str(self.root / "socket")
        pathlib.Path(path).unlink(missing_ok=True)
        qemu = FakeQemu(path, [DONE], answer, delay=delay)
        done = self.run_qmp(path, *words)
        qemu.join(20)
        self.stderr = done.stderr
        return done.returncode, done.stdout, qemu.heard

    def get(self, path, text):
        done = self.run_qmp("--get", path, input=text)
        self.assertIn(done.returncode, (0, NO_VALUE), done.stderr)
        return done.stdout.removesuffix("\n") if not done.returncode else None

    # Commands

    def test_a_name(self):
        code, out, heard = self.ask("query-status")
        self.assertEqual((code, out), (0, DONE + "\n"))
        self.assertEqual([json.loads(h) for h in heard],
                         [{"execute": "qmp_capabilities"},
                          {"execute": "query-status"}])

    def test_json(self):
        text = '{"execute": "x", "arguments": {"a": "b"}}'
        _, _, heard = self.ask(text)
        self.assertEqual(heard[1], text)

    def test_value(self):
        reply = '{"return": [{"counters": {"moves-done": 17}}]}'
        code, out, _ = self.ask("x", "return.0.counters.moves-done",
                                answer=[reply])
        self.assertEqual((code, out), (0, "17\n"))

    def test_no_value(self):
        code, out, _ = self.ask("x", "return.nosuch")
        self.assertEqual((code, out), (NO_VALUE, ""))
        self.assertIn("return.nosuch", self.stderr)

    def test_error(self):
        error = '{"error": {"class": "GenericError", "desc": "no such VM"}}'
        code, out, _ = self.ask("x", "return", answer=[error])
        self.assertEqual((code, out), (REFUSED, ""))
        self.assertIn("no such VM", self.stderr)

    def test_error_inside_a_reply_is_none(self):
        reply = '{"return": {"error": 1, "event": 2}}'
        self.assertEqual(self.ask("x", "return.error", answer=[reply])[:2],
                         (0, "1\n"))

    def test_events_before_the_reply(self):
        self.assertEqual(self.ask("x", answer=[EVENT, EVENT, DONE])[:2],
                         (0, DONE + "\n"))

    def test_a_big_reply(self):
        many = [{"block": n, "name": "x" * 50} for n in range(20000)]
        reply = json.dumps({"return": many, "id": "last"})
        self.assertGreater(len(reply), 1 << 20)
        code, out, _ = self.ask("x", answer=[reply])
        self.assertEqual((code, out), (0, reply + "\n"))
        self.assertEqual(self.ask("x", "return.19999.block",
                                  answer=[reply])[:2], (0, "19999\n"))

    def test_qemu_hangs_up(self):
        self.assertEqual(self.ask("x", answer=[])[0], NO_QEMU)

    def test_qemu_starts_late(self):
        self.assertEqual(self.ask("x", delay=0.3)[0], 0)

    def test_replies_that_are_no_json(self):
        for reply in ("", "}", "return", '{"return', '{"return"', "\x01"):
            with self.subTest(reply):
                self.assertEqual(self.ask("x", "return", answer=[reply])[0],
                                 NO_VALUE)

    def test_record(self):
        path, file = str(self.root / "events"), self.root / "record"
        file.write_text("before\n")
        FakeQemu(path, [DONE, EVENT, '{"event": "SHUTDOWN"}'])
        self.assertEqual(self.run_qmp("--record", path, file).returncode, 0)
        self.assertEqual(file.read_text(),
                         f'before\n{EVENT}\n{{"event": "SHUTDOWN"}}\n')

    def test_usage(self):
        for words in ((), ("a",), ("--get",), ("--record", "a"),
                      ("--nosuch", "a"), ("a", "b", "c", "d")):
            with self.subTest(words):
                self.assertEqual(self.run_qmp(*words).returncode, USAGE)

    # Paths

    def test_get(self):
        text = ' {"a": {"b-c": [1, [2, 3], {"d": "e"}]}, "f":true , ' \
               '"g":null,"h": -1.5e3, "":"empty"} '
        for path, expected in {
                "a.b-c.0": "1", "a.b-c.1.1": "3", "a.b-c.2.d": "e",
                "a.b-c.1": "[2, 3]", "f": "true", "g": "null",
                "h": "-1.5e3", "a.b-c.3": None, "a.b": None, "a.b-c-d": None,
                "f.x": None, "b-c": None}.items():
            with self.subTest(path):
                self.assertEqual(self.get(path, text), expected)

    def test_strings_hide_their_contents(self):
        text = r'{"a": "}],{\"b\": 1", "c": "x\\", "b": 2}'
        self.assertEqual(self.get("b", text), "2")
        self.assertEqual(self.get("a", text), r'}],{\"b\": 1')
        self.assertEqual(self.get("c", text), r'x\\')

    def test_whole(self):
        self.assertEqual(self.get("", '{"a": 1}'), '{"a": 1}')

    def test_all_that_json_can_print(self):
        """Each value of a nested document, by its path, as Python sees it."""
        def walk(thing, path):
            yield path, thing
            parts = thing.items() if isinstance(thing, dict) else \
                enumerate(thing) if isinstance(thing, list) else ()
            for key, value in parts:
                yield from walk(value, f"{path}.{key}".lstrip("."))

        document = {"a": [[], {}, [0, [{"x": [1, 2]}]]], "b": {"c": {}},
                    "d": [True, None, {"e": 12.5}]}
        for indent in (None, 2):
            text = json.dumps(document, indent=indent)
            for path, thing in walk(document, ""):
                with self.subTest(path):
                    self.assertEqual(json.loads(self.get(path, text)), thing)

    def test_every_broken_end(self):
        """A document cut off anywhere: no value, or one, but no crash."""
        text = '{"a": [1, {"b": "c\\"d"}], "e": {"f": [2]}}'
        for end in range(len(text)):
            with self.subTest(text[:end]):
                self.get("e.f.0", text[:end])
                self.get("a.1.b", text[:end])
        for text in ("[,]", "[}", "{:}", '{"a":}', "{,}", "]]]]",
                     '{"a" 1}', '"', "\\"):
            with self.subTest(text):
                self.assertIsNone(self.get("e.0", text))

    def test_a_member_without_its_value(self):
        self.assertIsNone(self.get("a", '{"a": '))

    def test_a_name_is_no_index(self):
        self.assertIsNone(self.get("a.counters", '{"a": [1, 2]}'))
