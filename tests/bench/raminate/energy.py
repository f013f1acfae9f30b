# SPDX-License-Identifier: GPL-2.0-or-later
"""RAMinate's model of energy (SoCC 2016), from counts of memory traffic.

    dram   E0 * (read + written) + idle power * time
    nvm    E0 * read + E1 * written, E1 = 10, 100 or 1000 times E0

The figures are those of the paper: 1 W per 4 GB/s, 0.06 W per GB idle.
"""

E0 = 0.25e-9                    # J per byte
IDLE = 0.06e-9                  # W per byte of DRAM
RATIOS = (10, 100, 1000)        # E1 / E0


def raminate(traffic, dram_bytes, seconds, ratio):
    """Joules.  `traffic` is {"dram": (read, written), "nvm": (...)}, bytes."""
    dram, nvm = traffic["dram"], traffic["nvm"]
    return E0 * sum(dram) + IDLE * dram_bytes * seconds + \
        E0 * nvm[0] + ratio * E0 * nvm[1]


def all_dram(traffic, guest_bytes, seconds):
    """Joules of a machine whose RAM is all DRAM, for the same traffic."""
    together = tuple(sum(tier) for tier in zip(*traffic.values()))
    return raminate({"dram": together, "nvm": (0, 0)}, guest_bytes, seconds,
                    1)
