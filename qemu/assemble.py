# SPDX-License-Identifier: GPL-2.0-or-later
"""Lay our files into a copy of a QEMU tree and insert the hook lines.

Everything is worked out in memory first (`plan`), from the pristine tree, and
any doubt is a `Refusal` with nothing written.  `carry_out` then only writes
what differs.  A manifest beside the tree tells what was written, so that a
second run changes nothing and a tree that was changed behind our back is
noticed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tomllib
from pathlib import Path
from typing import Any, Iterator

from refusal import Refusal

# How a comment is written, by the end of the file's name.  Upstream file
# types that are not here cannot take a comment where we insert.
COMMENTS = {
    ".c": ("/* ", " */"),
    ".h": ("/* ", " */"),
    ".json": ("# ", ""),
    ".build": ("# ", ""),
    ".hx": ("HXCOMM ", ""),
    ".rst": None,
}

# Parts of an upstream tree that the build never reads.
NOT_COPIED = {".git", "roms", "build"}

WRITING = "writing"
COMPLETE = "complete"


@dataclasses.dataclass(frozen=True)
class Hook:
    """One insertion; see hooks.toml for the meaning of the fields."""

    id: str
    file: str
    anchor: str
    where: str
    text: tuple[str, ...]
    above: str | None = None
    needs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """The hook table: which of our files to take, and the hooks."""

    take: tuple[str, ...]
    hooks: tuple[Hook, ...]


@dataclasses.dataclass
class Plan:
    """What an assembled tree is to look like, and how it now differs."""

    hooked: dict[str, bytes]  # path -> new content of an upstream file
    ours: dict[str, Path]  # path -> our file
    skipped: list[Hook]  # hooks whose own files do not exist yet
    write: list[str]  # hooked files to be written
    restore: list[str]  # once hooked, now to be upstream's again
    lay: list[str]  # our files to be laid in
    remove: list[str]  # our files to be taken away
    link: bool
    identity: str

    def changes(self) -> int:
        """How many files carrying out this plan will touch."""
        return sum(map(len, (self.write, self.restore, self.lay, self.remove)))


# --- The hook table -------------------------------------------------------


def load_table(path: Path) -> Table:
    """Read and check hooks.toml."""
    data = tomllib.loads(path.read_text())
    hooks = tuple(parse_hook(entry, path.parent) for entry in data["hook"])
    seen: set[str] = set()
    for hook in hooks:
        if hook.id in seen:
            raise Refusal(f"{path.name}: two hooks are called '{hook.id}'.")
        seen.add(hook.id)
    return Table(tuple(data["files"]["take"]), hooks)


def parse_hook(entry: dict[str, Any], folder: Path) -> Hook:
    """Make a Hook of one [[hook]] entry."""
    name = entry.get("id", "?")
    allowed = {"id", "file", "anchor", "above", "where", "text", "textfile",
               "needs"}
    unknown = sorted(set(entry) - allowed)
    missing = sorted({"id", "file", "anchor", "where"} - set(entry))
    if unknown or missing or ("text" in entry) == ("textfile" in entry):
        what = unknown or missing or ["text or textfile"]
        raise Refusal(f"hook '{name}': bad or missing field {what[0]}.")
    if entry["where"] not in ("before", "after", "replace"):
        raise Refusal(f"hook '{name}': where = '{entry['where']}' is unknown.")
    if "above" in entry and entry["where"] != "before":
        raise Refusal(f"hook '{name}': above goes with where = 'before' only.")
    return Hook(id=entry["id"], file=entry["file"], anchor=entry["anchor"],
                where=entry["where"], text=hook_text(entry, folder),
                above=entry.get("above"), needs=tuple(entry.get("needs", ())))


def hook_text(entry: dict[str, Any], folder: Path) -> tuple[str, ...]:
    """The lines of a hook, from the table or from the file it names."""
    if "text" in entry:
        text = entry["text"]
    else:
        path = folder / entry["textfile"]
        if not path.is_file():
            raise Refusal(f"hook '{entry['id']}': {path} does not exist.")
        text = path.read_text()
    return tuple(text.removesuffix("\n").split("\n"))


# --- Inserting ------------------------------------------------------------


def marked(hook: Hook) -> list[str]:
    """The lines of a hook between a begin and an end comment."""
    suffix = os.path.splitext(hook.file)[1]
    if suffix not in COMMENTS:
        raise Refusal(f"hook '{hook.id}': no comment syntax known for "
                      f"'{hook.file}'.")
    comment = COMMENTS[suffix]
    if comment is None:
        return list(hook.text)
    head, tail = comment
    return [f"{head}hybridmem: begin {hook.id}{tail}", *hook.text,
            f"{head}hybridmem: end {hook.id}{tail}"]


def place(hook: Hook, lines: list[str]) -> tuple[int, int]:
    """The range of `lines` that the hook's text takes the place of.

    An empty range is a plain insertion.  Refuses unless the anchor is there
    exactly once.
    """
    hits = [n for n, line in enumerate(lines) if line == hook.anchor]
    if len(hits) != 1:
        count = "is not there" if not hits else f"is there {len(hits)} times"
        raise Refusal(f"hook '{hook.id}': in {hook.file} the line "
                      f"«{hook.anchor}» {count}, it must be there once.")
    at = hits[0]
    if hook.where == "replace":
        return at, at + 1
    if hook.where == "after":
        return at + 1, at + 1
    if hook.above is not None:
        if at == 0 or lines[at - 1] != hook.above:
            raise Refusal(f"hook '{hook.id}': in {hook.file} the line over "
                          f"«{hook.anchor}» is not «{hook.above}».")
        at -= 1
    return at, at


def insert(hooks: list[Hook], content: bytes) -> bytes:
    """`content` with all hooks (of one file) in it."""
    lines = content.decode().split("\n")
    places = [(*place(hook, lines), n) for n, hook in enumerate(hooks)]
    for start, end, n in sorted(places, reverse=True):
        lines[start:end] = marked(hooks[n])
    return "\n".join(lines).encode()


def hook_up(hooks: list[Hook], pristine: Path) -> dict[str, bytes]:
    """New contents of all files that `hooks` name; all or a Refusal."""
    by_file: dict[str, list[Hook]] = {}
    for hook in hooks:
        by_file.setdefault(hook.file, []).append(hook)
    result = {}
    for file, group in by_file.items():
        path = pristine / file
        if not path.is_file():
            raise Refusal(f"hook '{group[0].id}': the tree has no {file}.")
        result[file] = insert(group, path.read_bytes())
    return result


# --- Trees ----------------------------------------------------------------


def series_of(tree: Path, known: set[str]) -> str:
    """The series (such as "10.0") of a QEMU tree; refuses unknown trees."""
    if not tree.is_dir():
        raise Refusal(f"{tree} does not exist.")
    version = tree / "VERSION"
    if not version.is_file() or not (tree / "configure").is_file():
        raise Refusal(f"{tree} is not a QEMU source tree (it has no VERSION).")
    text = version.read_text().strip()
    series = ".".join(text.split(".")[:2])
    if series not in known:
        raise Refusal(f"{tree} is QEMU {text}, but only the series "
                      f"{', '.join(sorted(known))} are supported.")
    return series


def refuse_used_tree(pristine: Path, table: Table) -> None:
    """Refuse a tree that has anything of ours in it already."""
    for file in sorted({hook.file for hook in table.hooks}):
        path = pristine / file
        if path.is_file() and b"hybridmem: begin " in path.read_bytes():
            raise Refusal(f"{pristine} is already (perhaps half) assembled: "
                          f"{file} has our lines; give an untouched tree.")


def our_files(repo: Path, table: Table) -> dict[str, Path]:
    """Our files to lay in, by their path in the tree."""
    found = {}
    for pattern in table.take:
        for path in sorted(repo.glob(pattern)):
            if path.is_file() and not path.name.endswith(("~", ".swp")):
                found[path.relative_to(repo).as_posix()] = path
    return found


def digest(content: bytes) -> str:
    """A short name for `content`."""
    return hashlib.sha256(content).hexdigest()


def copy_tree(source: Path, target: Path) -> None:
    """Copy a pristine tree, times kept; all of it or nothing."""
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)

    def ignore(folder: str, names: list[str]) -> list[str]:
        return [n for n in names if n in NOT_COPIED] \
            if Path(folder) == source else []

    shutil.copytree(source, part, symlinks=True, ignore=ignore)
    part.rename(target)


def tree_files(tree: Path) -> Iterator[str]:
    """All files of an upstream tree that we copy, as relative paths."""
    for folder, folders, names in os.walk(tree):
        top = Path(folder) == tree
        folders[:] = [f for f in folders if not (top and f in NOT_COPIED)]
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), tree)


def refresh_tree(source: Path, target: Path, hooked: set[str]) -> int:
    """Copy what changed in a user's own tree since it was copied."""
    count = 0
    for file in tree_files(source):
        if file in hooked:
            continue
        new, old = source / file, target / file
        there = old.lstat() if os.path.lexists(old) else None
        now = new.lstat()
        if there and (there.st_size, there.st_mtime_ns) == \
                (now.st_size, now.st_mtime_ns):
            continue
        old.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(new, old, follow_symlinks=False)
        count += 1
    return count


# --- Planning and carrying out --------------------------------------------


class Assembly:
    """One assembled tree (`tree`) made from `pristine` and `repo`."""

    def __init__(self, repo: Path, table: Table, pristine: Path, tree: Path,
                 identity: str):
        self.repo = repo
        self.table = table
        self.pristine = pristine
        self.tree = tree
        self.identity = identity  # says which upstream this is
        self.manifest_path = tree.with_name("assembly.json")

    def manifest(self) -> dict[str, Any]:
        """What was written last time; empty for a new tree."""
        try:
            return json.loads(self.manifest_path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            raise Refusal(f"{self.manifest_path} cannot be read; "
                          f"run ./configure --reassemble.") from None

    def plan(self, link: bool) -> Plan:
        """Check everything and say what is to be done.  Writes nothing."""
        refuse_used_tree(self.pristine, self.table)
        ours = our_files(self.repo, self.table)
        self._refuse_clash(ours)
        wanted = [h for h in self.table.hooks
                  if all(need in ours for need in h.needs)]
        # Every anchor is checked, also of hooks that wait for our files.
        hook_up(list(self.table.hooks), self.pristine)
        hooked = hook_up(wanted, self.pristine)
        old = self.manifest()
        self._refuse_spoiled(old)
        plan = Plan(hooked=hooked, ours=ours, link=link,
                    skipped=[h for h in self.table.hooks if h not in wanted],
                    write=[], restore=[], lay=[], remove=[],
                    identity=self.identity)
        self._compare(plan, old)
        return plan

    def _refuse_clash(self, ours: dict[str, Path]) -> None:
        for file in ours:
            if os.path.lexists(self.pristine / file):
                raise Refusal(f"{file} of ours exists in QEMU's tree too; "
                              f"it must have another name.")

    def _refuse_spoiled(self, old: dict[str, Any]) -> None:
        """Refuse a tree that is not as its manifest says."""
        again = "run ./configure --reassemble to make it anew"
        if not old:
            if self.tree.exists():
                raise Refusal(f"{self.tree} was not made by configure or only "
                              f"half; {again}.")
            return
        if old.get("state") != COMPLETE or not self.tree.is_dir():
            raise Refusal(f"{self.tree} is only half assembled (an earlier "
                          f"run was interrupted); {again}.")
        if old["identity"] != self.identity:
            raise Refusal(f"{self.tree} was made from {old['identity']}, not "
                          f"from {self.identity}; {again}.")
        for file, want in old["hooked"].items():
            path = self.tree / file
            if not path.is_file() or digest(path.read_bytes()) != want:
                raise Refusal(f"{path} was changed since it was assembled; "
                              f"put lines of ours in qemu/hooks.toml and "
                              f"{again}.")

    def _compare(self, plan: Plan, old: dict[str, Any]) -> None:
        old_hooked = old.get("hooked", {})
        for file, content in plan.hooked.items():
            if old_hooked.get(file) != digest(content):
                plan.write.append(file)
        plan.restore = [f for f in old_hooked if f not in plan.hooked]
        old_ours = old.get("ours", {})
        for file, path in plan.ours.items():
            if old_ours.get(file) != self._mark(path, plan.link) or \
                    not os.path.lexists(self.tree / file):
                plan.lay.append(file)
        plan.remove = [f for f in old_ours if f not in plan.ours]

    @staticmethod
    def _mark(path: Path, link: bool) -> str:
        """Tells whether a file of ours was laid in as it is now."""
        if link:
            return f"link {path}"
        stat = path.stat()
        return f"copy {stat.st_size} {stat.st_mtime_ns}"

    def carry_out(self, plan: Plan, refresh: bool = False) -> None:
        """Make the tree as planned.

        refresh: the pristine tree is the user's and may have changed.
        """
        if not self.tree.exists():
            copy_tree(self.pristine, self.tree)
        elif refresh:
            refresh_tree(self.pristine, self.tree, set(plan.hooked))
        if plan.changes() == 0:
            return
        self._write_manifest({"state": WRITING, "identity": plan.identity})
        for file in plan.remove:
            (self.tree / file).unlink(missing_ok=True)
        for file in plan.restore:
            # Not copy2: the times must tell ninja that it changed.
            shutil.copyfile(self.pristine / file, self.tree / file)
        for file in plan.write:
            (self.tree / file).write_bytes(plan.hooked[file])
        for file in plan.lay:
            self._lay(file, plan.ours[file], plan.link)
        self._write_manifest({
            "state": COMPLETE,
            "identity": plan.identity,
            "link": plan.link,
            "hooked": {f: digest(c) for f, c in plan.hooked.items()},
            "ours": {f: self._mark(p, plan.link)
                     for f, p in plan.ours.items()},
        })

    def _lay(self, file: str, path: Path, link: bool) -> None:
        target = self.tree / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if link:
            target.unlink(missing_ok=True)
            target.symlink_to(path)
            return
        same = target.is_file() and not target.is_symlink() and \
            target.read_bytes() == path.read_bytes()
        if same:
            return
        changed = target.exists()
        target.unlink(missing_ok=True)
        shutil.copy2(path, target)
        if changed:
            os.utime(target)  # what was built since is of the file before

    def _write_manifest(self, data: dict[str, Any]) -> None:
        part = self.manifest_path.with_suffix(".part")
        part.write_text(json.dumps(data, indent=1) + "\n")
        part.replace(self.manifest_path)
