# SPDX-License-Identifier: GPL-2.0-or-later
"""Where memory lies in the server (a q35), and QEMU's options for it.

RAM: the first part lies below 4 GiB, the rest from 4 GiB on.  Reserved ranges
lie in one row at 256 MiB, or at 4 GiB when there is too much RAM for that;
so neither the kernel (16 MiB) nor its initramfs (at the end of low RAM) is in
their way.  NVDIMMs lie behind all RAM, each at a multiple of 1 GiB.
"""

from typing import NamedTuple

from . import LabError

MiB = 1 << 20
GiB = 1 << 30
LOW_MAX = 0xb0000000    # q35: less RAM than this lies below 4 GiB as a whole,
LOW_SPLIT = 2 * GiB     # of more RAM only this much
LOW_RESERVED = 256 * MiB
LOW_REST = 512 * MiB    # for the initramfs above reserved ranges
LABEL = 2 * MiB         # an nvdimm's label area, at its end


class Range(NamedTuple):
    """Physical memory of the server; bytes."""
    start: int
    size: int
    kind: str           # reserved | nvdimm | node


class Hardware:
    """Of a scenario.Server: `ranges` by name, QEMU's options, and kernel
    parameters."""

    def __init__(self, server):
        self.server = server
        reserved = sum(server.reserved.values()) * MiB
        self.low = LOW_RESERVED + reserved + LOW_REST < LOW_MAX and \
            server.memory * MiB + reserved < LOW_MAX
        own = server.memory * MiB
        if not self.low and reserved:
            own = max(own, LOW_SPLIT)
        elif self.low:
            own = max(own, LOW_RESERVED + LOW_REST)
        self.node_sizes = [n.memory * MiB for n in server.node] or [own]
        self.node_sizes[0] += reserved + own - (
            server.memory * MiB if server.node else own)
        self.total = sum(self.node_sizes)
        self.ranges = {}
        self._place_reserved()
        self._check_reserved()
        self._place_nodes()
        self._place_nvdimms()

    def _low(self):
        return self.total if self.total < LOW_MAX else LOW_SPLIT

    def _place_reserved(self):
        at = LOW_RESERVED if self.low else 4 * GiB
        for name, size in self.server.reserved.items():
            self.ranges[name] = Range(at, size * MiB, "reserved")
            at += size * MiB

    def _check_reserved(self):
        """All in the first node, which got memory for them."""
        for name, r in self.ranges.items():
            end = r.start + r.size
            if r.start >= 4 * GiB:
                end -= 4 * GiB - self._low()
            if end > self.node_sizes[0]:
                more = -(-(end - self.node_sizes[0]) // MiB)
                raise LabError(f"server.reserved: '{name}' would lie in the "
                               "second NUMA node; give the first "
                               f"[[server.node]] {more} MiB more, or reserve "
                               "less")

    def _place_nodes(self):
        """Nodes lie in RAM one after the other; the first also holds what is
        below 4 GiB, so only its start is told when it has two parts."""
        at, low = 0, self._low()
        for i, size in enumerate(self.node_sizes):
            if not size:
                continue
            if at >= low:
                self.ranges[f"node{i}"] = Range(at - low + 4 * GiB, size,
                                                "node")
            elif at + size <= low:
                self.ranges[f"node{i}"] = Range(at, size, "node")
            at += size

    def _place_nvdimms(self):
        at = max(self.total - self._low(), 0) + 4 * GiB
        for name, size in self.server.nvdimm.items():
            at = -(-at // GiB) * GiB
            self.ranges[name] = Range(at, size * MiB, "nvdimm")
            at += size * MiB + LABEL
        self.end = -(-at // GiB) * GiB

    def range(self, name):
        """A range of RAM, or a complaint that says which there are."""
        if name not in self.ranges:
            raise LabError(f"there is no memory range '{name}'; there are "
                           f"{', '.join(self.ranges)} (server.reserved, "
                           "server.nvdimm, node0...)")
        return self.ranges[name]

    def kernel_params(self):
        return " ".join(f"memmap={r.size // MiB}M${r.start:#x}"
                        for r in self.ranges.values() if r.kind == "reserved")

    def variables(self):
        """Shell variables for scripts: NAME_start, NAME_size (bytes, as
        0x...), NAME_mib; for nvdimms NAME_index, too."""
        found = {}
        for name, r in self.ranges.items():
            found[f"{name}_start"] = hex(r.start)
            found[f"{name}_size"] = hex(r.size)
            found[f"{name}_mib"] = str(r.size // MiB)
        for i, name in enumerate(self.server.nvdimm):
            found[f"{name}_index"] = str(i)
        for i, node in enumerate(self.server.node):
            if node.nvdimm:
                found[f"{node.nvdimm}_node"] = str(i)
        for i, name in enumerate(self.server.disk):
            found[f"{name}_disk"] = f"/dev/vd{chr(ord('a') + i)}"
        return found

    def options(self, backing=None):
        """QEMU's options; nvdimms and disks are files in `backing`, which
        outlive the process (`backing` makes them), or anonymous memory."""
        # No HPET: a timer less to emulate, and nobody needs it.
        machine = "q35,nvdimm=on,usb=off,sata=off,smbus=off,hpet=off"
        memory = f"{self.total // MiB}M"
        if self.server.nvdimm:
            memory += f",slots={len(self.server.nvdimm)}," \
                      f"maxmem={(self.end + 64 * GiB) // MiB}M"
        if self.server.node:
            machine += ",hmat=on"
        found = ["-machine", machine, "-m", memory,
                 "-smp", str(self.server.cpus), *self._nodes()]
        for i, (name, size) in enumerate(self.server.nvdimm.items()):
            at = self.ranges[name]
            found += ["-object", backend(name, size * MiB + LABEL, backing),
                      "-device", f"nvdimm,id=dimm{i},memdev={name},slot={i},"
                      f"label-size={LABEL},addr={at.start:#x}" +
                      self._node_of(name)]
        for name, size in self.server.disk.items():
            found += ["-drive", f"id={name},if=none,format=raw,"
                      f"cache=unsafe,file={backing(name, size * MiB)}",
                      "-device", f"virtio-blk-pci,drive={name}"]
        return found + list(self.server.options)

    def _node_of(self, nvdimm):
        return "".join(f",node={i}" for i, n in enumerate(self.server.node)
                       if n.nvdimm == nvdimm)

    def _nodes(self):
        found, cpu = [], 0
        for i, node in enumerate(self.server.node):
            cpus = f",cpus={cpu}-{cpu + node.cpus - 1}" if node.cpus else \
                ",initiator=0"
            cpu += node.cpus
            memdev = ""
            if node.memory:
                memdev = f",memdev=m{i}"
                found += ["-object", "memory-backend-ram,"
                          f"id=m{i},size={self.node_sizes[i]}"]
            found += ["-numa", f"node,nodeid={i}{memdev}{cpus}"]
        for i, node in enumerate(self.server.node):
            for kind, value in (("latency", f"latency={node.latency}"),
                                ("bandwidth",
                                 f"bandwidth={node.bandwidth}M")):
                found += ["-numa", "hmat-lb,initiator=0,hierarchy=memory,"
                          f"target={i},data-type=access-{kind},{value}"]
        return found


def backend(name, size, backing):
    if backing is None:
        return f"memory-backend-ram,id={name},size={size}"
    return f"memory-backend-file,id={name},size={size},share=on," \
           f"mem-path={backing(name, size)}"
