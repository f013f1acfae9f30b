# SPDX-License-Identifier: GPL-2.0-or-later
"""The two functions that know the lab; runner.py says what they owe."""

import functools
import hashlib
import json
import pathlib
import re
import sys

REPO = pathlib.Path(__file__).resolve().parents[3]
LAB = REPO / "tests/lab"
sys.path.insert(0, str(LAB))

from lab import images, results, rootfs, scenario   # noqa: E402

from . import cells                                 # noqa: E402
from .results import ENGINE, METER, PAGE, PAGES     # noqa: E402

TEMPLATE = pathlib.Path(__file__).with_name("cell.toml")
MiB = 1 << 20
EPOCH = 50_000_000     # instructions

# A run lasts seconds of the server's time where RAMinate's lasted minutes, so
# all periods are shorter in proportion: RAMinate's window of a second is
# INTERVAL here.  In RAMinate the log was never off.
INTERVAL = 50          # ms
ENGINE_OPTIONS = {
    "interval": INTERVAL,
    "window": INTERVAL,
    "half-life": 5 * INTERVAL,
    "cmq-lifetime": 5 * INTERVAL,
    "cmq-cork": 5 * INTERVAL,
    # A move in the emulated server takes far longer than on hardware, beside
    # the guest's work; what is measured here is traffic.
    "max-bandwidth": 0,
    "max-stall": 0,
    "max-stop": 10000,
}


def dram_mib(memory, share):
    """The whole MiB nearest to the share."""
    return max(1, round(memory * share / 100))


def text_of(cell):
    """The cell's scenario file."""
    memory = images.workloads().memory_of(cell.workload)
    dram = dram_mib(memory, cell.share)
    words = {
        "name": cell.name, "workload": cell.workload, "memory": memory,
        "dram": dram, "nvm": memory - dram,
        "epoch": 0 if cell.managed else EPOCH,
        "pages": "false" if cell.managed else "true",
        "enabled": "true" if cell.managed else "false",
        "policy": cell.policy if cell.managed else "none",
        "engine": ",".join(f"{k}={v}" for k, v in ENGINE_OPTIONS.items()),
    }
    return re.sub("@([a-z]+)@", lambda m: str(words[m[1]]),
                  TEMPLATE.read_text(encoding="utf-8"))


@functools.cache
def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def image_key(workload):
    """Builds the image, which is quick when it is there."""
    image = images.by_name(workload)
    return digest(image.kernel) + digest(image.initrd)


@functools.cache
def server_key():
    """The server's image, which holds QEMU; built if it is not there."""
    return rootfs.server_image(rootfs.object_folder()).facts["sha256"]


def inputs_key(cell):
    """See runner.Lab."""
    obj = rootfs.object_folder()
    return {
        "scenario": text_of(cell),
        "guest image": image_key(cell.workload),
        "server image": server_key(),
        "meter": digest(obj / "contrib/plugins/libhybridmem-meter.so"),
        "outer QEMU": digest(obj / "qemu-system-x86_64"),
    }


def run_cell(cell, directory):
    """See runner.Lab."""
    path = directory / f"{cell.name}.toml"
    path.write_text(text_of(cell), encoding="utf-8")
    run = results.run_scenario(scenario.load(str(path)),
                               rootfs.object_folder(), directory)
    folder = directory / cell.name
    for passed, text in run.lines:
        print("ok" if passed else "not ok", text)
    if not all(passed for passed, _ in run.lines):
        raise RuntimeError("; ".join(t for ok, t in run.lines if not ok))
    found = json.loads((folder / "results.json").read_text())
    (folder / "meter-0.json").rename(directory / METER)
    if not cell.managed:
        (folder / "pages-0").rename(directory / PAGES)
    engine = found["engine"]
    (directory / ENGINE).write_text(json.dumps(engine, indent=1) + "\n")
    sizes = {t["tier"]: t["size"] // PAGE for t in engine["tiers"]}
    facts = json.loads((folder / "run.json").read_text())
    return {"dram-pages": sizes["dram"], "nvm-pages": sizes["nvm"],
            "done": found["done"], "versions": facts["versions"],
            "images": facts["images"]}
