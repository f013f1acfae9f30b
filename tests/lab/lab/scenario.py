# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario files: what they may say, and what they say wrong."""

import dataclasses
import difflib
import pathlib
import re
import tomllib

from . import LAB, LabError, kernels, software

FOLDER = LAB / "scenarios"
NAME = re.compile(r"[a-z][a-z0-9_]*$")
FILE_NAME = re.compile(r"[a-z][a-z0-9_-]*$")


@dataclasses.dataclass
class Node:
    """A NUMA node of the server; it has CPUs or is memory only.  One of an
    nvdimm is empty until a script makes that the system's RAM."""
    memory: int = 0         # MiB
    cpus: int = 0
    latency: int = 100      # ns, from node 0
    bandwidth: int = 10240  # MiB/s, from node 0
    nvdimm: str = ""        # its name, in place of memory


@dataclasses.dataclass
class Server:
    """Hardware; sizes in MiB."""
    memory: int = 1024      # without the reserved ranges
    cpus: int = 1
    shift: int = 0          # of -icount: an instruction is 2^shift ns
    kernel: str = ""        # its oldest version, as "6.11"; "": any
    params: str = ""        # for the kernel
    modules: list = dataclasses.field(default_factory=list)
    reserved: dict = dataclasses.field(default_factory=dict)
    nvdimm: dict = dataclasses.field(default_factory=dict)
    disk: dict = dataclasses.field(default_factory=dict)
    node: list = dataclasses.field(default_factory=list)
    options: list = dataclasses.field(default_factory=list)
    software: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Meter:
    """The plugin's arguments; see docs/meter.md."""
    ranges: object = None   # list of names, or table; None: all that have one
    llc: str = ""
    l1: str = ""
    l2: str = ""
    memory_mode: str = ""
    pages: bool = False
    epoch: int = 0          # instructions
    when: str = ""


@dataclasses.dataclass
class Guest:
    """A guest; `options` is shell text, expanded in the server."""
    image: str = "plain"
    memory: int = 0         # MiB; 0: `options` have -m
    cpus: int = 1
    accel: str = "kvm"
    machine: str = "q35"
    params: str = ""        # for the kernel
    options: str = ""


@dataclasses.dataclass
class Boot:
    """One boot of the server."""
    script: str
    timeout: int = 0        # seconds; 0: the scenario's


@dataclasses.dataclass
class Scenario:
    name: str
    about: str
    timeout: int            # seconds of wall time for each boot
    exact: bool
    server: Server
    meter: Meter | None
    guests: dict
    boots: list
    figures: dict           # name: expression
    checks: list
    files: dict
    programs: list          # paths in QEMU's build folder


class Reader:
    """Values of one table, with errors that name file, key and value."""

    def __init__(self, file, table, path=""):
        self.file = file
        self.table = table
        self.path = path

    def error(self, key, text):
        where = f"{self.path}.{key}" if self.path and key else \
            self.path or key
        raise LabError(f"{self.file}: {where}: {text}")

    def only(self, known):
        for key in self.table:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                self.error(key, "there is no such key" +
                           (f"; did you mean '{near[0]}'?" if near else
                            f"; there are {', '.join(sorted(known))}"))

    def value(self, key, kind, default=None, needed=False):
        if key not in self.table:
            if needed:
                self.error(key, f"is missing; it must be {a_kind(kind)}")
            return default
        value = self.table[key]
        if not is_kind(value, kind):
            self.error(key, f"{value!r} must be {a_kind(kind)}")
        return value

    def fill(self, cls):
        """A dataclass of numbers and texts, from this table."""
        fields = {f.name: f for f in dataclasses.fields(cls)}
        self.only(fields)
        values = {}
        for name, field in fields.items():
            kind = field.type if isinstance(field.type, type) else object
            needed = field.default is dataclasses.MISSING and \
                field.default_factory is dataclasses.MISSING
            if name in self.table or needed:
                values[name] = self.value(name, kind, needed=needed)
        return cls(**values)


def is_kind(value, kind):
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and \
            value >= 0
    return isinstance(value, kind)


def a_kind(kind):
    return {int: "a number, not negative", str: "a text in quotes",
            bool: "true or false", list: "a list", dict: "a table"}[kind]


def sizes(reader, key, align):
    """A table of names and MiB."""
    table = reader.value(key, dict, {})
    inner = Reader(reader.file, table, f"{reader.path}.{key}")
    for name, size in table.items():
        if not NAME.match(name):
            inner.error(name, "a name must be lower-case letters, digits and "
                        "_, as scripts use it as a variable")
        if not is_kind(size, int) or not size or size % align:
            inner.error(name, f"{size!r} must be MiB, a multiple of {align}")


def check_node(reader, server, number, node):
    path = f"node[{number}]"
    if bool(node.memory) == bool(node.nvdimm):
        reader.error(path, "give either memory = MiB or nvdimm = \"NAME\"")
    if node.nvdimm and node.nvdimm not in server.nvdimm:
        reader.error(path, f"there is no nvdimm '{node.nvdimm}'; there are "
                     f"{', '.join(server.nvdimm) or 'none'} (server.nvdimm)")
    if node.nvdimm in [n.nvdimm for n in server.node[:number] if n.nvdimm]:
        reader.error(path, f"the nvdimm '{node.nvdimm}' belongs to a node "
                     "before it")
    if node.nvdimm and node.cpus:
        reader.error(path, "a node of an nvdimm has no CPUs; leave cpus out")


def read_server(file, table):
    reader = Reader(file, table, "server")
    server = reader.fill(Server)
    sizes(reader, "reserved", 1)
    sizes(reader, "nvdimm", 16)
    sizes(reader, "disk", 1)
    names = [*server.reserved, *server.nvdimm, *server.disk]
    for name in names:
        if names.count(name) > 1:
            reader.error(name, "two things have this name; rename one")
    server.node = [Reader(file, node, f"server.node[{i}]").fill(Node)
                   for i, node in enumerate(server.node)]
    if server.node:
        if "memory" in table or "cpus" in table:
            reader.error("memory" if "memory" in table else "cpus",
                         "the nodes ([[server.node]]) say this; leave it out")
        if not server.node[0].cpus:
            reader.error("node[0]", "the first node needs cpus = 1 or more")
        for i, node in enumerate(server.node):
            check_node(reader, server, i, node)
        server.memory = sum(n.memory for n in server.node)
        server.cpus = sum(n.cpus for n in server.node)
    if server.kernel and not kernels.is_version(server.kernel):
        reader.error("kernel", f"{server.kernel!r} must be the oldest version "
                     "that will do, such as \"6.11\"")
    for name in server.software:
        if name not in software.KNOWN:
            reader.error("software", f"{name!r} must be one of "
                         f"{', '.join(software.KNOWN)}")
    if server.memory < 512:
        reader.error("memory", f"{server.memory} MiB are too few for the "
                     "server's own system; give 512 or more")
    return server


def read_boots(file, data):
    reader = Reader(file, data)
    if ("script" in data) == ("boot" in data):
        reader.error("script", "give either script = '''...''' or one or more "
                     "[[boot]] tables with a script each")
    if "script" in data:
        return [Boot(reader.value("script", str))]
    return [Reader(file, boot, f"boot[{i}]").fill(Boot)
            for i, boot in enumerate(reader.value("boot", list))]


KEYS = ("about", "timeout", "exact", "server", "meter", "guest", "script",
        "boot", "figures", "checks", "files", "programs")


def parse(name, data, file):
    """A Scenario from TOML's tables; LabError tells what is wrong."""
    reader = Reader(file, data)
    reader.only(KEYS)
    about = reader.value("about", str, needed=True)
    server = read_server(file, reader.value("server", dict, {}))
    meter = reader.value("meter", dict)
    if meter is not None:
        meter = Reader(file, meter, "meter").fill(Meter)
    guests = {}
    for guest, table in reader.value("guest", dict, {}).items():
        if not FILE_NAME.match(guest):
            reader.error(f"guest.{guest}", "a name must be lower-case letters,"
                         " digits, - and _")
        guests[guest] = Reader(file, table, f"guest.{guest}").fill(Guest)
    checks = reader.value("checks", list, [])
    figures = reader.value("figures", dict, {})
    programs = reader.value("programs", list, [])
    for key, found in (("checks", checks), ("figures", figures.values()),
                       ("programs", programs)):
        for text in found:
            if not isinstance(text, str):
                reader.error(key, f"{text!r} must be a text in quotes")
    return Scenario(
        name, about, reader.value("timeout", int, 600),
        reader.value("exact", bool, meter is not None), server, meter, guests,
        read_boots(file, data), figures, checks,
        reader.value("files", dict, {}), programs)


def names():
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name):
    """The scenario NAME of tests/lab/scenarios, or a file PATH.toml."""
    path = pathlib.Path(name) if name.endswith(".toml") else \
        FOLDER / f"{name}.toml"
    if not path.exists():
        raise LabError(f"there is no scenario '{name}'; there are "
                       f"{', '.join(names())} (or give a path, FILE.toml)")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as e:
        raise LabError(f"{path.name}: {e}") from e
    return parse(path.stem, data, path.name)
