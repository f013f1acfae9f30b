# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's archive through a private apt configuration under build/.

The machine's own apt settings are neither used nor changed, but for two
things: which mirror it uses, and Debian's archive keyring.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from refusal import Refusal

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITE_NAMES = re.compile(
    r"^(stable|testing|unstable|bookworm|trixie|forky|sid)$")


@dataclasses.dataclass(frozen=True)
class Pin:
    """A base as bases.toml names it."""

    series: str
    suites: tuple[str, ...]
    version: str
    dsc: str
    orig: str


@dataclasses.dataclass(frozen=True)
class Source:
    """An unpacked upstream tree: where it is and what it is."""

    tree: Path
    identity: str  # unique name of the content
    words: str  # what to tell the user


def say(text: str) -> None:
    """Progress, to stderr, at once."""
    print(text, file=sys.stderr, flush=True)


# --- The mirror -----------------------------------------------------------


def mirror_of_machine(etc: Path = Path("/etc/apt")) -> str:
    """The Debian mirror in the machine's own apt sources."""
    given = os.environ.get("HYBRIDMEM_MIRROR")
    if given:
        return given.rstrip("/")
    parts = etc / "sources.list.d"
    files = [etc / "sources.list", *sorted(parts.glob("*.list")),
             *sorted(parts.glob("*.sources"))]
    for file in files:
        if file.is_file():
            text = file.read_text(errors="replace")
            found = deb822_mirror(text) if file.suffix == ".sources" \
                else one_line_mirror(text)
            if found:
                return found
    raise Refusal("no Debian mirror is named in /etc/apt; name one with "
                  "HYBRIDMEM_MIRROR=URL or give a tree with --qemu-src=PATH.")


def one_line_mirror(text: str) -> str | None:
    """The first Debian mirror of a sources.list."""
    for line in text.splitlines():
        match = re.match(r"\s*deb(-src)?\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+"
                         r"(.*\b)?main\b", line)
        if match and SUITE_NAMES.match(match[4]):
            return match[3].rstrip("/")
    return None


def deb822_mirror(text: str) -> str | None:
    """The first Debian mirror of a .sources file."""
    for stanza in re.split(r"\n\s*\n", text):
        lines = [ln for ln in stanza.splitlines() if not ln.startswith("#")]
        field = dict(re.match(r"([\w-]+):\s*(.*)", ln).groups()
                     for ln in lines if re.match(r"[\w-]+:", ln))
        suites = field.get("Suites", "").split()
        if "main" in field.get("Components", "").split() and \
                field.get("URIs") and any(map(SUITE_NAMES.match, suites)) and \
                field.get("Enabled", "yes") != "no":
            return field["URIs"].split()[0].rstrip("/")
    return None


# --- Private apt ----------------------------------------------------------


class Apt:
    """apt-get and apt-cache with their own sources and lists."""

    def __init__(self, folder: Path, lines: list[str]):
        self.folder = folder
        self.lines = lines
        self.options = [
            "-o", f"Dir::Etc::sourcelist={folder}/sources.list",
            "-o", "Dir::Etc::sourceparts=/dev/null",
            "-o", f"Dir::State::lists={folder}/lists",
            "-o", f"Dir::Cache={folder}/cache",
            # Everything is ours here, there is no _apt user to read it.
            "-o", "APT::Sandbox::User=",
            "-o", "Acquire::Languages=none",
            "-o", "Acquire::Retries=2",
            "-o", "Acquire::http::Timeout=30",
        ]

    def update(self) -> None:
        """Fetch the lists; refuses when there is no network."""
        for part in ("lists/partial", "cache/archives/partial"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "sources.list").write_text("\n".join(self.lines) + "\n")
        done = self.run("apt-get", "-q", "-o", "APT::Update::Error-Mode=any",
                        "update")
        if done.returncode != 0:
            raise Refusal("Debian's archive cannot be reached "
                          f"({first_error(done.stderr)}); connect this machine "
                          "or give a tree with --qemu-src=PATH.")

    def run(self, program: str, *args: str,
            cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run an apt program and keep what it says."""
        return subprocess.run([program, *self.options, *args], cwd=cwd,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)


def first_error(text: str) -> str:
    """The first error line of apt's, without its prefix."""
    for line in text.splitlines():
        if line.startswith(("E:", "W:", "Err:")):
            return line.split(":", 1)[1].strip().rstrip(".")
    return "apt-get failed"


# --- Fetching a base ------------------------------------------------------


def sha256(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bare(version: str) -> str:
    """A Debian version without its epoch, as in file names."""
    return version.split(":", 1)[-1]


def dsc_of(folder: Path, version: str) -> Path:
    """Where a version's .dsc is kept."""
    return folder / f"qemu_{bare(version)}.dsc"


def orig_of(folder: Path, version: str) -> Path:
    """Where a version's upstream tarball is kept."""
    return folder / f"qemu_{bare(version).rsplit('-', 1)[0]}.orig.tar.xz"


def debian_tar_of(folder: Path, version: str) -> Path:
    """Where a version's Debian part is kept."""
    return folder / f"qemu_{bare(version)}.debian.tar.xz"


def have(folder: Path, version: str) -> bool:
    """Are all files of a version here?"""
    return all(path(folder, version).is_file()
               for path in (dsc_of, orig_of, debian_tar_of))


def check_pin(folder: Path, pin: Pin) -> None:
    """Compare the pinned version's files with their sha256."""
    for path, want in ((dsc_of(folder, pin.version), pin.dsc),
                       (orig_of(folder, pin.version), pin.orig)):
        got = sha256(path)
        if got != want:
            raise Refusal(f"{path} has sha256 {got} but {want} is pinned in "
                          f"qemu/bases.toml; remove the file and try again.")


def listed(apt: Apt, series: str) -> list[str]:
    """Versions of a series ("": of any) that the archive lists, newest
    first."""
    shown = apt.run("apt-cache", "showsrc", "--only-source", "qemu")
    versions = re.findall(r"^Version: (\S+)$", shown.stdout, re.M)
    mine = {v for v in versions if bare(v).startswith(series + ".")
            or not series}
    return sorted(mine, key=version_key, reverse=True)


def version_key(version: str) -> tuple[int, ...]:
    """Order of versions of one package (numbers only, good enough)."""
    return tuple(int(n) for n in re.findall(r"\d+", bare(version)))


def download(apt: Apt, version: str, folder: Path) -> bool:
    """Fetch a source package; False if the archive does not have it."""
    folder.mkdir(parents=True, exist_ok=True)
    say(f"fetching qemu {bare(version)} (source, 40 MB) from Debian ...")
    done = apt.run("apt-get", "-q", "source", "--download-only",
                   f"qemu={version}", cwd=folder)
    return done.returncode == 0 and have(folder, version)


def source_lines(suites: tuple[str, ...]) -> list[str]:
    """sources.list lines for the source packages of some suites."""
    mirror = mirror_of_machine()
    return [f"deb-src [signed-by={KEYRING}] {mirror} {suite} main"
            for suite in suites]


def fetch(pin: Pin, build: Path, pinned_only: bool = False) -> list[str]:
    """Make sure that a version of the pinned series is in build/archive.

    Returns the versions to be tried, best first: the pinned one, or, when the
    archive has replaced it, the ones that the archive has (the caller takes
    the first whose hooks check).
    """
    folder = build / "archive"
    if have(folder, pin.version):
        check_pin(folder, pin)
        return [pin.version]
    older = held(folder, pin.series)
    if older and not pinned_only:
        return older
    apt = Apt(build / "apt" / pin.series, source_lines(pin.suites))
    say(f"asking Debian's archive for qemu {pin.series} ...")
    apt.update()
    versions = listed(apt, pin.series)
    if pin.version in versions and download(apt, pin.version, folder):
        check_pin(folder, pin)
        return [pin.version]
    others = [v for v in versions if v != pin.version]
    got = [v for v in others if download(apt, v, folder)]
    if not got:
        raise Refusal(f"qemu {bare(pin.version)} is gone from Debian's archive "
                      f"and no other {pin.series} can be had there; give a "
                      f"tree with --qemu-src=PATH.")
    return got


def fetch_newest(suites: tuple[str, ...], build: Path) -> str:
    """Download the newest QEMU that some suites have, of any series."""
    folder = build / "archive"
    apt = Apt(build / "apt" / "newest", source_lines(suites))
    say("asking Debian's archive for its newest qemu ...")
    apt.update()
    for version in listed(apt, ""):
        if have(folder, version) or download(apt, version, folder):
            return version
        say(f"qemu {bare(version)} is listed but cannot be had")
    raise Refusal("Debian's archive has no qemu that can be had.")


def held(folder: Path, series: str) -> list[str]:
    """Versions of a series that were downloaded earlier, newest first."""
    names = [p.name for p in folder.glob(f"qemu_{series}.*.dsc")]
    versions = ["1:" + n.removeprefix("qemu_").removesuffix(".dsc")
                for n in names]
    return sorted((v for v in versions if have(folder, v)),
                  key=version_key, reverse=True)


def unpack(build: Path, version: str) -> Path:
    """Unpack a downloaded version (once); returns the tree."""
    target = build / "archive" / f"qemu-{bare(version)}"
    if target.is_dir():
        return target
    if not shutil.which("dpkg-source"):
        raise Refusal("dpkg-source is missing; run qemu/deps (package "
                      "dpkg-dev).")
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    say(f"unpacking qemu {bare(version)} ...")
    # apt has verified the archive's signature, bases.toml the pin.
    done = subprocess.run(
        ["dpkg-source", "--no-check", "-q", "-x",
         str(dsc_of(build / "archive", version)), str(part)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refusal("dpkg-source cannot unpack qemu "
                      f"{bare(version)}: {done.stderr.strip()}")
    # The firmware sources are two thirds of the files; nothing reads them.
    shutil.rmtree(part / "roms", ignore_errors=True)
    part.rename(target)
    return target


# --- A source of the user's own ---------------------------------------------


def from_tarball(path: Path, target: Path) -> Path:
    """Unpack a user's tarball (once, until it changes); returns the tree."""
    stat = path.stat()
    mark = f"{path} {stat.st_size} {stat.st_mtime_ns}"
    note = target.with_name(target.name + ".from")
    if target.is_dir() and note.is_file() and note.read_text() == mark:
        return sole_folder(target)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    say(f"unpacking {path} ...")
    done = subprocess.run(["tar", "-xf", str(path), "-C", str(part)],
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(part)
        raise Refusal(f"{path} is neither a folder nor a tarball that tar "
                      f"can read.")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    note.write_text(mark)
    return sole_folder(target)


def sole_folder(target: Path) -> Path:
    """The one folder that a release tarball holds, or the place itself."""
    inside = list(target.iterdir())
    if len(inside) == 1 and inside[0].is_dir():
        return inside[0]
    return target
