# SPDX-License-Identifier: GPL-2.0-or-later
"""Find and install the Debian packages that we need (packages.toml)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import archive
from archive import say
from refusal import Refusal

HERE = Path(__file__).resolve().parent


def load() -> dict[str, Any]:
    """packages.toml."""
    return tomllib.loads((HERE / "packages.toml").read_text())


def installed(names: list[str]) -> dict[str, str]:
    """Versions of those of `names` that are installed."""
    if not shutil.which("dpkg-query"):
        raise Refusal("this is not Debian (dpkg-query is missing); install "
                      "the packages of qemu/packages.toml by hand and set "
                      "HYBRIDMEM_NO_DEPS=1.")
    done = subprocess.run(
        ["dpkg-query", "-W", "-f",
         "${Package}\t${db:Status-Status}\t${Version}\n", *names],
        capture_output=True, text=True, check=False)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {row[0]: row[2] for row in rows if row[1] == "installed"}


def older(version: str, minimum: str) -> bool:
    """Is a package version older than a minimum?"""
    return subprocess.run(["dpkg", "--compare-versions", version, "lt",
                           minimum], check=False).returncode == 0


def missing(groups: list[str]) -> list[str]:
    """Packages of the groups that are not there, or too old."""
    if os.environ.get("HYBRIDMEM_NO_DEPS"):
        return []
    data = load()
    unknown = [g for g in groups if g not in data["group"]]
    if unknown:
        raise Refusal(f"no package group is called '{unknown[0]}'.")
    wanted = sorted({name for g in groups for name in data["group"][g]})
    have = installed(wanted)
    minimum = data["minimum"]
    return [n for n in wanted if n not in have
            or (n in minimum and older(have[n], minimum[n]))]


def codename() -> str:
    """The Debian release of this machine."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.split("=", 1)[1].strip('"')
    return ""


def as_root(command: list[str]) -> list[str]:
    """`command`, through sudo if need be."""
    if os.geteuid() == 0:
        return command
    if not shutil.which("sudo"):
        raise Refusal("packages must be installed, but this is neither root "
                      f"nor is there sudo; run as root: {' '.join(command)}")
    return ["sudo", *command]


def apt_get(*args: str) -> None:
    """Run apt-get as root with its output shown; refuses if it fails."""
    command = as_root(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get",
                       "-q", *args])
    done = subprocess.run(command, stdin=subprocess.DEVNULL,
                          stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise Refusal(f"apt-get {' '.join(args[:1])} failed (see above); the "
                      f"network, or the machine's apt sources?")


def install_backports(names: list[str], release: str, suite: str) -> None:
    """Install from backports through a private apt configuration."""
    mirror = archive.mirror_of_machine()
    apt = archive.Apt(HERE.parent / "build" / "apt" / suite, [
        f"deb [signed-by={archive.KEYRING}] {mirror} {name} main"
        for name in (release, suite)])
    apt.update()
    apt_get(*apt.options, "install", "-y", "--no-install-recommends",
            "-t", suite, *names)


def install(groups: list[str]) -> None:
    """Install what is missing of some groups, saying what."""
    names = missing(groups)
    if not names:
        return
    say(f"installing Debian packages: {' '.join(names)}")
    data = load()
    release = codename()
    suite = data["backports"].get(release)
    later = [n for n in names if n in data["minimum"]] if suite else []
    now = [n for n in names if n not in later]
    if now:
        apt_get("update")
        apt_get("install", "-y", "--no-install-recommends", *now)
    if later:
        install_backports(later, release, suite)
    still = missing(groups)
    if still:
        raise Refusal(f"packages are still missing: {' '.join(still)}.")


def main() -> int:
    """qemu/deps [--check] GROUP..."""
    args = sys.argv[1:]
    check = "--check" in args
    groups = [a for a in args if a != "--check"] or ["build"]
    try:
        if not check:
            install(groups)
            return 0
        names = missing(groups)
        print("\n".join(names), end="\n" if names else "")
        return 1 if names else 0
    except Refusal as refusal:
        say(f"deps: {refusal}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
