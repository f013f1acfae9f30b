# SPDX-License-Identifier: GPL-2.0-or-later
"""Where memory lies in the server.  What a q35 does with -m is written down
here once more: below 0xb0000000 in one part, else 2 GiB and the rest from
4 GiB on."""

import itertools
import unittest

from lab import LabError
from lab.hardware import LABEL, GiB, Hardware, MiB
from lab.scenario import Node, Server

KERNEL_END = 256 * MiB      # it lies at 16 MiB and has some 60
INITRD = 512 * MiB          # the most that one may have


def server(nodes=(), **keys):
    if nodes:
        keys["memory"] = sum(n.memory for n in nodes)
    return Server(node=list(nodes), **keys)


def ram(hardware):
    """[(start, end)] of RAM in a q35."""
    total = hardware.total
    if total < 0xb0000000:
        return [(0, total)]
    return [(0, 2 * GiB), (4 * GiB, 4 * GiB + total - 2 * GiB)]


def inside(span, parts):
    return any(a <= span[0] and span[1] <= b for a, b in parts)


def spans(hardware, *kinds):
    return [(r.start, r.start + r.size) for r in hardware.ranges.values()
            if r.kind in kinds]


SIZES = (512, 640, 768, 1024, 2303, 2304, 2560, 2815, 2816, 4096, 9000)
RESERVED = ({}, {"a": 1}, {"dram": 32, "nvm": 224}, {"a": 2047},
            {"a": 2049, "b": 1}, {"a": 7000})
NVDIMMS = ({}, {"x": 16}, {"x": 1024, "y": 16}, {"x": 1008, "y": 2048})


class Layout(unittest.TestCase):

    def each(self):
        for memory, reserved, nvdimm in itertools.product(
                SIZES, RESERVED, NVDIMMS):
            with self.subTest(memory=memory, reserved=reserved,
                              nvdimm=nvdimm):
                yield Hardware(server(memory=memory, reserved=reserved,
                                      nvdimm=nvdimm))

    def test_ranges_do_not_overlap(self):
        for hardware in self.each():
            found = sorted(spans(hardware, "reserved", "nvdimm"))
            for (_, end), (start, _) in zip(found, found[1:]):
                self.assertLessEqual(end, start)

    def test_reserved_are_ram(self):
        for hardware in self.each():
            for span in spans(hardware, "reserved"):
                self.assertTrue(inside(span, ram(hardware)), span)

    def test_kernel_and_initramfs_are_free(self):
        """The initramfs lies at the end of RAM below 4 GiB."""
        for hardware in self.each():
            low = ram(hardware)[0][1]
            self.assertGreaterEqual(low, KERNEL_END + INITRD)
            for start, end in spans(hardware, "reserved"):
                self.assertGreaterEqual(start, KERNEL_END)
                self.assertTrue(end <= low - INITRD or start >= low)

    def test_the_last_that_is_low(self):
        hardware = Hardware(server(memory=512, reserved={"a": 2048}))
        for span in spans(hardware, "reserved"):
            self.assertTrue(inside(span, ram(hardware)), span)

    def test_the_server_has_its_memory(self):
        for hardware in self.each():
            reserved = sum(e - s for s, e in spans(hardware, "reserved"))
            self.assertGreaterEqual(hardware.total - reserved,
                                    hardware.server.memory * MiB)

    def test_nvdimms_are_behind_and_aligned(self):
        for hardware in self.each():
            for start, end in spans(hardware, "nvdimm"):
                self.assertGreaterEqual(start, 4 * GiB)
                self.assertGreaterEqual(start, ram(hardware)[-1][1])
                self.assertEqual(start % GiB, 0)
                self.assertLessEqual(end + LABEL, hardware.end)

    def test_labels_have_room(self):
        hardware = Hardware(server(nvdimm={"x": 1024, "y": 16}))
        x, y = (hardware.ranges[n] for n in "xy")
        self.assertLessEqual(x.start + x.size + LABEL, y.start)

    def test_of_a_table(self):
        """RAMinate's, as the scenario has it."""
        hardware = Hardware(server(memory=768,
                                   reserved={"dram": 64, "nvm": 448}))
        self.assertEqual(hardware.ranges["dram"],
                         (0x10000000, 64 * MiB, "reserved"))
        self.assertEqual(hardware.ranges["nvm"],
                         (0x14000000, 448 * MiB, "reserved"))
        self.assertEqual(hardware.kernel_params(),
                         "memmap=64M$0x10000000 memmap=448M$0x14000000")
        self.assertEqual(hardware.total, (768 + 512) * MiB)


class Nodes(unittest.TestCase):

    def test_one_after_the_other(self):
        hardware = Hardware(server([Node(1024, 1), Node(512)]))
        self.assertEqual(hardware.ranges["node0"], (0, GiB, "node"))
        self.assertEqual(hardware.ranges["node1"], (GiB, GiB // 2, "node"))

    def test_the_hole_below_4_gib(self):
        hardware = Hardware(server([Node(2048, 1), Node(2048)]))
        self.assertEqual(hardware.ranges["node1"], (4 * GiB, 2 * GiB, "node"))
        hardware = Hardware(server([Node(3072, 1), Node(2048)]))
        self.assertNotIn("node0", hardware.ranges)
        self.assertEqual(hardware.ranges["node1"], (5 * GiB, 2 * GiB, "node"))

    def test_reserved_are_taken_from_none(self):
        hardware = Hardware(server([Node(1024, 1), Node(512)],
                                   reserved={"dram": 64}))
        self.assertEqual(hardware.node_sizes, [1088 * MiB, 512 * MiB])

    # Node 0 gets more memory for what is reserved; it may yet end below the
    # reserved ranges' place.
    def test_reserved_lie_in_the_first_or_nowhere(self):
        for nodes in ([Node(1024, 1), Node(4096)], [Node(128, 1), Node(896)]):
            with self.assertRaisesRegex(LabError, "'dram' would lie in the "
                                        "second NUMA node; give the first"):
                Hardware(server(nodes, reserved={"dram": 512}))
        Hardware(server([Node(256, 1), Node(896)], reserved={"dram": 512}))

    def test_of_an_nvdimm(self):
        hardware = Hardware(server(
            [Node(1024, 1), Node(512), Node(nvdimm="y", latency=300)],
            nvdimm={"x": 16, "y": 256}))
        self.assertEqual(hardware.total, 1536 * MiB)
        self.assertNotIn("node2", hardware.ranges)
        self.assertEqual(hardware.variables()["y_node"], "2")
        self.assertNotIn("x_node", hardware.variables())
        words = hardware.options()
        self.assertIn("node,nodeid=2,initiator=0", words)
        self.assertFalse([w for w in words if "id=m2" in w])
        nvdimms = [w for w in words if w.startswith("nvdimm,")]
        self.assertNotIn(",node=", nvdimms[0])
        self.assertTrue(nvdimms[1].endswith(",node=2"))
        self.assertTrue([w for w in words if "target=2" in w])

    def test_options(self):
        words = " ".join(Hardware(server(
            [Node(1024, 3), Node(512, latency=300, bandwidth=5),
             Node(512, 1)])).options())
        self.assertIn("hmat=on", words)
        self.assertIn("nodeid=0,memdev=m0,cpus=0-2", words)
        self.assertIn("nodeid=1,memdev=m1,initiator=0", words)
        self.assertIn("nodeid=2,memdev=m2,cpus=3-3", words)
        self.assertIn("target=1,data-type=access-latency,latency=300", words)
        self.assertIn("target=1,data-type=access-bandwidth,bandwidth=5M",
                      words)


class Told(unittest.TestCase):

    def test_variables(self):
        hardware = Hardware(server(memory=768, reserved={"dram": 64},
                                   nvdimm={"x": 16, "y": 32},
                                   disk={"d": 8, "e": 8}))
        found = hardware.variables()
        self.assertEqual(found["dram_start"], "0x10000000")
        self.assertEqual(found["dram_size"], "0x4000000")
        self.assertEqual(found["dram_mib"], "64")
        self.assertEqual((found["x_index"], found["y_index"]), ("0", "1"))
        self.assertEqual((found["d_disk"], found["e_disk"]),
                         ("/dev/vda", "/dev/vdb"))

    def test_unknown_range(self):
        with self.assertRaisesRegex(LabError, "'dran'.*there are dram"):
            Hardware(server(memory=768, reserved={"dram": 64})).range("dran")

    def test_options(self):
        made = {}

        def backing(name, size):
            made[name] = size
            return f"/f/{name}"

        hardware = Hardware(server(cpus=3, nvdimm={"x": 16}, disk={"d": 8},
                                   options=["-msg", "timestamp=on"]))
        plain = " ".join(hardware.options(backing))
        self.assertIn("-m 1024M,slots=1,maxmem=", plain)
        self.assertIn("-smp 3", plain)
        self.assertIn(f"addr={hardware.ranges['x'].start:#x}", plain)
        self.assertIn("mem-path=/f/x", plain)
        self.assertIn("file=/f/d", plain)
        self.assertTrue(plain.endswith("-msg timestamp=on"))
        self.assertEqual(made, {"x": 16 * MiB + LABEL, "d": 8 * MiB})

    def test_nvdimm_of_anonymous_memory(self):
        words = " ".join(Hardware(server(nvdimm={"x": 16})).options())
        self.assertIn(f"memory-backend-ram,id=x,size={16 * MiB + LABEL}",
                      words)
