# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs scenarios of the lab for a cell."""

import functools
import hashlib
import json
import pathlib
import sys
import tomllib

REPO = pathlib.Path(__file__).resolve().parents[3]
LAB = REPO / "tests/lab"
sys.path.insert(0, str(LAB))

from lab import images, results, rootfs, scenario   # noqa: E402


@functools.cache
def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def image_key(name):
    """Builds the image, which is quick when it is there."""
    image = images.by_name(name)
    return digest(image.kernel) + digest(image.initrd)


@functools.cache
def server_key(minimum):
    """The server's image, which holds QEMU, and its kernel, if that is not the
    release's own; built if it is not there."""
    image = rootfs.server_image(rootfs.object_folder(), minimum)
    return image.facts["sha256"] + (minimum and digest(image.kernel))


def inputs(text, *images_):
    """See runner.Lab; of a scenario file whose guests have these images."""
    obj = rootfs.object_folder()
    server = tomllib.loads(text).get("server", {})
    return {
        "scenario": text,
        "guest image": "".join(map(image_key, images_)),
        "server image": server_key(server.get("kernel", "")),
        "meter": digest(obj / "contrib/plugins/libhybridmem-meter.so"),
        "outer QEMU": digest(obj / "qemu-system-x86_64"),
    }


def memory_of(workload):
    """MiB of guest RAM that it is meant for."""
    return images.workloads().memory_of(workload)


def run(name, text, directory):
    """Runs the scenario file in directory/name.  Returns that folder, its
    results.json and its run.json; raises unless all is ok."""
    path = directory / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    done = results.run_scenario(scenario.load(str(path)),
                                rootfs.object_folder(), directory)
    for passed, words in done.lines:
        print("ok" if passed else "not ok", words)
    if not all(passed for passed, _ in done.lines):
        raise RuntimeError("; ".join(t for ok, t in done.lines if not ok))
    folder = directory / name
    return (folder, *(json.loads((folder / file).read_text())
                      for file in ("results.json", "run.json")))
