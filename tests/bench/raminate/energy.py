# SPDX-License-Identifier: GPL-2.0-or-later
"""Modelled energy from counts of memory traffic: RAMinate's formulas, with
the models of hw/hybridmem/device-models.toml (docs/models.md)."""

import functools
import pathlib
import sys

from .results import LINE

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tools"))

import hybridmem_models                             # noqa: E402

# E1 / E0 of RAMinate, and what the model of STT-MRAM calls them.
RATIOS = {10: "low", 100: "typical", 1000: "high"}


@functools.cache
def models():
    """{name: model}"""
    return hybridmem_models.load()


def joules(model, traffic, size, seconds):
    """A Range.  `traffic` is (read, written), in bytes, as is `size`."""
    counts = {"fills": traffic[0] / LINE, "writebacks": traffic[1] / LINE,
              "bytes": size}
    return hybridmem_models.account(counts, models()[model],
                                    seconds)["energy-j"]


def raminate(traffic, dram_bytes, seconds, ratio):
    """Joules.  `traffic` is {"dram": (read, written), "nvm": (...)}, bytes;
    STT-MRAM idles for nothing."""
    return joules("dram", traffic["dram"], dram_bytes, seconds).typical + \
        getattr(joules("stt-mram", traffic["nvm"], 0, seconds),
                RATIOS[ratio])


def all_dram(traffic, guest_bytes, seconds):
    """Joules of a machine whose RAM is all DRAM, for the same traffic."""
    together = tuple(sum(tier) for tier in zip(*traffic.values()))
    return joules("dram", together, guest_bytes, seconds).typical
