# SPDX-License-Identifier: GPL-2.0-or-later
"""The installer on small fake trees: what it does, and all that it refuses."""

from __future__ import annotations

import json
import os
import tempfile
import time
import unittest
from pathlib import Path

import assemble
from assemble import Assembly, Hook, Table
from refusal import Refusal

UPSTREAM = {
    "VERSION": "10.0.9\n",
    "configure": "#!/bin/sh\n",
    "meson.build": "project('x')\nsubdir('a')\nsubdir('b')\n",
    "qapi/qom.json": "# top\n\n##\n# @Other:\n##\n{ 'enum': 'Other' }\n",
    "roms/big": "firmware\n",
    "hw/a.c": "int a;\n",
}
OURS = {"hw/hybridmem/x.c": "int x;\n", "hw/hybridmem/y.c": "int y;\n"}

DIRECTORY = Hook("directory", "meson.build", "subdir('a')", "after",
                 ("subdir('hybridmem')",))
STRUCTS = Hook("structs", "qapi/qom.json", "# @Other:", "before",
               ("##", "# @Ours:", "##"), above="##")
GLOBAL = Hook("global", "hw/a.c", "int a;", "replace", ("int b;",))


def write(folder: Path, files: dict[str, str]) -> None:
    """Write a small tree."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """All files below a folder with content and time."""
    return {str(p.relative_to(folder)): (p.read_bytes(), p.lstat().st_mtime_ns)
            for p in sorted(folder.rglob("*")) if p.is_file()}


class Case(unittest.TestCase):
    """A repository of ours and a pristine tree in a temporary folder."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.top = Path(folder.name)
        self.repo, self.pristine = self.top / "repo", self.top / "pristine"
        self.tree = self.top / "build" / "tree"
        self.tree.parent.mkdir()
        write(self.repo, OURS)
        write(self.pristine, UPSTREAM)

    def assembly(self, *hooks: Hook, identity: str = "10.0.9") -> Assembly:
        """An assembly with some hooks."""
        table = Table(("hw/hybridmem/*",), hooks or (DIRECTORY, STRUCTS))
        return Assembly(self.repo, table, self.pristine, self.tree, identity)

    def make(self, *hooks: Hook, link: bool = False) -> assemble.Plan:
        """Plan and carry out."""
        assembly = self.assembly(*hooks)
        plan = assembly.plan(link)
        assembly.carry_out(plan)
        return plan

    def text(self, name: str) -> str:
        """A file of the assembled tree."""
        return (self.tree / name).read_text()

    def refuses(self, expected: str, *hooks: Hook, **kwargs: str) -> None:
        """Planning must refuse with these words and write nothing."""
        before = snapshot(self.top)
        with self.assertRaises(Refusal) as caught:
            self.assembly(*hooks, **kwargs).plan(link=False)
        self.assertIn(expected, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))
        self.assertEqual(before, snapshot(self.top))


class Inserting(Case):
    def test_after(self) -> None:
        self.make(DIRECTORY)
        self.assertEqual(
            self.text("meson.build"),
            "project('x')\nsubdir('a')\n# hybridmem: begin directory\n"
            "subdir('hybridmem')\n# hybridmem: end directory\nsubdir('b')\n")

    def test_before_the_line_above(self) -> None:
        self.make(STRUCTS)
        self.assertEqual(
            self.text("qapi/qom.json"),
            "# top\n\n# hybridmem: begin structs\n##\n# @Ours:\n##\n"
            "# hybridmem: end structs\n##\n# @Other:\n##\n"
            "{ 'enum': 'Other' }\n")

    def test_replace(self) -> None:
        self.make(GLOBAL)
        self.assertEqual(self.text("hw/a.c"),
                         "/* hybridmem: begin global */\nint b;\n"
                         "/* hybridmem: end global */\n")

    def test_one_place_keeps_the_order_of_the_table(self) -> None:
        second = Hook("second", "meson.build", "subdir('a')", "after", ("z",))
        self.make(DIRECTORY, second)
        text = self.text("meson.build")
        self.assertLess(text.index("directory"), text.index("second"))

    def test_needs_waits_for_our_file(self) -> None:
        waiting = Hook("wait", "meson.build", "subdir('b')", "after", ("w",),
                       needs=("hw/hybridmem/z.c",))
        plan = self.make(DIRECTORY, waiting)
        self.assertEqual([hook.id for hook in plan.skipped], ["wait"])
        self.assertNotIn("begin wait", self.text("meson.build"))
        write(self.repo, {"hw/hybridmem/z.c": ""})
        self.make(DIRECTORY, waiting)
        self.assertIn("begin wait", self.text("meson.build"))


class Laying(Case):
    def test_copies_with_times_and_leaves_firmware(self) -> None:
        self.make()
        for name in ("hw/hybridmem/x.c", "hw/hybridmem/y.c"):
            self.assertEqual(self.text(name), OURS[name])
            self.assertEqual((self.tree / name).stat().st_mtime_ns,
                             (self.repo / name).stat().st_mtime_ns)
        self.assertFalse((self.tree / "roms").exists())

    def test_second_run_changes_nothing(self) -> None:
        self.make()
        before = snapshot(self.tree.parent)
        plan = self.make()
        self.assertEqual(plan.changes(), 0)
        self.assertEqual(before, snapshot(self.tree.parent))

    def test_only_what_changed(self) -> None:
        self.make()
        write(self.repo, {"hw/hybridmem/x.c": "int xx;\n"})
        plan = self.make()
        self.assertEqual((plan.lay, plan.write), (["hw/hybridmem/x.c"], []))
        self.assertEqual(self.text("hw/hybridmem/x.c"), "int xx;\n")

    def test_an_older_file_gets_a_new_time(self) -> None:
        self.make()
        target = self.tree / "hw/hybridmem/x.c"
        built = target.stat().st_mtime_ns
        write(self.repo, {"hw/hybridmem/x.c": "int old;\n"})
        os.utime(self.repo / "hw/hybridmem/x.c", (1, 1))
        self.make()
        self.assertGreater(target.stat().st_mtime_ns, built)

    def test_a_file_edited_before_the_last_build_gets_a_new_time(self) -> None:
        self.make()
        write(self.repo, {"hw/hybridmem/x.c": "int edited;\n"})
        time.sleep(0.02)
        built = self.top / "x.o"
        built.touch()
        self.make()
        self.assertGreater((self.tree / "hw/hybridmem/x.c").stat().st_mtime_ns,
                           built.stat().st_mtime_ns)

    def test_a_removed_file_goes(self) -> None:
        self.make()
        (self.repo / "hw/hybridmem/y.c").unlink()
        self.make()
        self.assertFalse((self.tree / "hw/hybridmem/y.c").exists())

    def test_links_and_back(self) -> None:
        self.make(link=True)
        target = self.tree / "hw/hybridmem/x.c"
        self.assertTrue(target.is_symlink())
        self.assertEqual(target.read_text(), OURS["hw/hybridmem/x.c"])
        self.make(link=False)
        self.assertFalse(target.is_symlink())
        self.assertEqual((self.repo / "hw/hybridmem/x.c").read_text(),
                         OURS["hw/hybridmem/x.c"])

    def test_changed_hooks_start_from_the_pristine_file(self) -> None:
        self.make(DIRECTORY)
        other = Hook("directory", "meson.build", "subdir('b')", "before",
                     ("subdir('other')",))
        self.make(other)
        self.assertEqual(self.text("meson.build").count("begin"), 1)
        self.assertIn("subdir('other')", self.text("meson.build"))

    def test_a_dropped_hook_restores_the_file(self) -> None:
        self.make(DIRECTORY, GLOBAL)
        self.make(DIRECTORY)
        self.assertEqual(self.text("hw/a.c"), UPSTREAM["hw/a.c"])

    def test_pristine_tree_is_never_written(self) -> None:
        before = snapshot(self.pristine)
        self.make()
        self.make(GLOBAL)
        self.assertEqual(before, snapshot(self.pristine))

    def test_refresh_takes_over_the_users_edits(self) -> None:
        self.make(DIRECTORY)
        write(self.pristine, {"hw/a.c": "int edited;\n"})
        assembly = self.assembly(DIRECTORY)
        assembly.carry_out(assembly.plan(False), refresh=True)
        self.assertEqual(self.text("hw/a.c"), "int edited;\n")


class Refusing(Case):
    def test_missing_anchor(self) -> None:
        self.refuses("is not there", DIRECTORY,
                     Hook("h", "meson.build", "subdir('c')", "after", ("x",)))

    def test_no_fuzzy_match(self) -> None:
        for anchor in ("subdir('a') ", " subdir('a')", "subdir('A')"):
            self.refuses("is not there", Hook("h", "meson.build", anchor,
                                              "after", ("x",)))

    def test_anchor_twice(self) -> None:
        write(self.pristine, {"meson.build": "subdir('a')\nsubdir('a')\n"})
        self.refuses("is there 2 times")

    def test_line_above_differs(self) -> None:
        write(self.pristine, {"qapi/qom.json": "#\n# @Other:\n##\n"})
        self.refuses("the line over")

    def test_file_missing(self) -> None:
        self.refuses("the tree has no nowhere.c",
                     Hook("h", "nowhere.c", "x", "after", ("x",)))

    def test_anchors_of_waiting_hooks_are_checked(self) -> None:
        self.refuses("is not there", DIRECTORY,
                     Hook("h", "meson.build", "gone", "after", ("x",),
                          needs=("not/yet.c",)))

    def test_unknown_comment_syntax(self) -> None:
        self.refuses("no comment syntax",
                     Hook("h", "VERSION", "10.0.9", "after", ("x",)))

    def test_tree_has_our_lines(self) -> None:
        path = self.pristine / "meson.build"
        path.write_text(path.read_text() + "# hybridmem: begin directory\n")
        self.refuses("half) assembled")

    def test_tree_has_a_file_of_the_same_name(self) -> None:
        write(self.pristine, {"hw/hybridmem/x.c": "theirs\n"})
        self.refuses("exists in QEMU's tree too")

    def test_interrupted_while_writing(self) -> None:
        self.make()
        assembly = self.assembly()
        state = json.loads(assembly.manifest_path.read_text())
        state["state"] = assemble.WRITING
        assembly.manifest_path.write_text(json.dumps(state))
        self.refuses("half assembled")

    def test_interrupted_before_the_manifest(self) -> None:
        self.tree.mkdir()
        self.refuses("only half")

    def test_hooked_file_was_edited(self) -> None:
        self.make()
        (self.tree / "meson.build").write_text("edited\n")
        self.refuses("was changed since it was assembled")

    def test_another_base(self) -> None:
        self.make()
        self.refuses("not from 10.0.10", identity="10.0.10")

    def test_manifest_is_rubbish(self) -> None:
        self.make()
        self.assembly().manifest_path.write_text("{")
        self.refuses("cannot be read")


class Trees(Case):
    def test_series(self) -> None:
        self.assertEqual(assemble.series_of(self.pristine, {"10.0"}), "10.0")

    def test_unknown_trees(self) -> None:
        empty = self.top / "empty"
        empty.mkdir()
        for tree, expected in ((self.top / "none", "does not exist"),
                               (empty, "no VERSION")):
            with self.assertRaisesRegex(Refusal, expected):
                assemble.series_of(tree, {"10.0"})

    def test_unsupported_series(self) -> None:
        write(self.pristine, {"VERSION": "8.2.0\n"})
        with self.assertRaisesRegex(Refusal, "8.2.0.*only the series 10.0"):
            assemble.series_of(self.pristine, {"10.0"})


class Tables(unittest.TestCase):
    def load(self, text: str) -> Table:
        """Load a table from text."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hooks.toml"
            path.write_text("[files]\ntake = []\n" + text)
            return assemble.load_table(path)

    def test_lines(self) -> None:
        table = self.load("[[hook]]\nid = 'a'\nfile = 'f.c'\nanchor = 'x'\n"
                          "where = 'after'\ntext = '''\n  one\n  two\n'''\n")
        self.assertEqual(table.hooks[0].text, ("  one", "  two"))

    def test_refusals(self) -> None:
        good = "[[hook]]\nid = 'a'\nfile = 'f.c'\nanchor = 'x'\n"
        for text, expected in (
                (good + "where = 'near'\ntext = 'x'\n", "where = 'near'"),
                (good + "where = 'after'\n", "text or textfile"),
                (good + "where = 'after'\ntext = 'x'\nfuzz = 2\n", "fuzz"),
                (good + "where = 'after'\ntextfile = 'no'\n", "not exist"),
                (good + "where = 'after'\ntext = 'x'\nabove = 'y'\n", "above"),
                ((good + "where = 'after'\ntext = 'x'\n") * 2, "two hooks")):
            with self.subTest(expected=expected):
                with self.assertRaisesRegex(Refusal, expected):
                    self.load(text)

    def test_the_real_table_is_sound(self) -> None:
        table = assemble.load_table(
            Path(assemble.__file__).with_name("hooks.toml"))
        self.assertGreater(len(table.hooks), 10)
        for hook in table.hooks:
            self.assertTrue(hook.anchor.strip(), hook.id)
            self.assertTrue(assemble.marked(hook), hook.id)


if __name__ == "__main__":
    unittest.main()
