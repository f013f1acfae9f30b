# SPDX-License-Identifier: GPL-2.0-or-later
"""The scenario of a cell with several guests: the parts of scenarios.py, with
more memory, and a guest's part for each."""

from . import results, scenarios
from .cells import FOUR_GUESTS, FOUR_INTERVAL, LINUX, MODE, Workload

TURN = 10               # ms
SERVER_OWN = 1280       # MiB; four times QEMU and a guest's image

GUEST = """
[guest.vm-@guest@]
image = "@image@"
memory = @memory@
machine = "q35,memory-backend=ram0"
params = "hm.hold=1 hm.warm_phase=@phase@ hm.run_phase=@phase@ @params@"
options = \"\"\"
-no-shutdown
@ram@
\"\"\"
"""


def nodes(row, guests, memory, dram):
    """Of the server, in whole blocks of 128 MiB."""
    def blocks(mib):
        return -(-mib // 128) * 128

    all_, part = guests * memory, guests * dram
    if row == LINUX:
        return f"nvdimm = {{ nvm = {blocks(all_) + 256} }}\n" + \
            scenarios.NODES.format(SERVER_OWN + all_).replace(
                "never", f"never {scenarios.KEPT}") + scenarios.DAX_NODE
    nvm = scenarios.NVM_NODE.replace("384", str(
        blocks(all_ - (0 if row == MODE else part)) + 128))
    dram_node = "" if row == MODE else \
        scenarios.DRAM_NODE.replace("128", str(blocks(part + 8)))
    return scenarios.NODES.format(SERVER_OWN) + dram_node + nvm


def guest_text(name, number, words):
    """Its table."""
    workload = FOUR_GUESTS[name]
    return scenarios.fill(GUEST, {
        **words, "guest": name, "phase": results.FIRST + number,
        "image": workload.image, "params": workload.params})


def words_of(cell):
    """What the scenario has between two @."""
    one = Workload(next(iter(FOUR_GUESTS.values())).image,
                   interval=FOUR_INTERVAL)
    words = scenarios.words_of(cell, one)
    count = len(FOUR_GUESTS)
    return {
        **words, "pages": "false", "epoch": 0, "turn": TURN,
        "first": results.FIRST,
        "vms": " ".join(f"vm-{name}" for name in FOUR_GUESTS),
        "server": nodes(cell.row, count, words["memory"], words["dram"]),
        "meter": words["meter"].replace("@dram@",
                                        str(count * words["dram"])),
        # It is of the time for which a process has run.
        "period": FOUR_INTERVAL // count,
        "guests": "".join(guest_text(name, n, words)
                          for n, name in enumerate(FOUR_GUESTS)),
    }


def text_of(cell):
    """The cell's scenario file."""
    text = (scenarios.HERE / "four.toml").read_text(encoding="utf-8")
    return scenarios.fill(text, words_of(cell))
