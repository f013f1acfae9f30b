# SPDX-License-Identifier: GPL-2.0-or-later
"""Hybrid memory on QEMU's command line, and what query-hybridmem says: the
only place of these tests that knows the names in qapi/hybridmem.json."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from typing import NamedTuple

from .image import BUILD, GuestError

MiB = 1 << 20
SCRATCH_PREFIX = "hybridmem-scratch-"


class Seen(NamedTuple):
    """Pages that windows have shown, summed over them."""
    windows: int
    pages: int
    nvm_pages: int

    def since(self, before):
        return Seen(*(a - b for a, b in zip(self, before)))


class Stats(NamedTuple):
    """One answer of query-hybridmem; counters are sums since the start."""
    state: str
    inhibitors: tuple
    windows: int
    dirty: int
    nvm_dirty: int
    moves: int
    moved_pages: int
    failed: int
    stall_ns: int
    stall_ns_max: int
    access_windows: int
    read: int               # pages only read, about
    nvm_read: int
    granule: int            # bytes that a read is seen by; 0: not seen

    def written(self):
        return Seen(self.windows, self.dirty, self.nvm_dirty)

    def only_read(self):
        return Seen(self.access_windows, self.read, self.nvm_read)


def stats(vm):
    engines = vm.qmp("query-hybridmem")
    if not engines:
        raise GuestError(f"{vm.name}: QEMU knows of no hybridmem engine")
    engine = engines[0]
    counter = engine["counters"]
    access = engine["accesses"]
    return Stats(engine["state"], tuple(engine["inhibitors"]),
                 counter["windows"], counter["dirty-pages"],
                 counter["nvm-dirty-pages"], counter["moves-done"],
                 counter["moved-pages"], counter["skipped"]["failed"],
                 counter["stall-ns-total"], counter["stall-ns-max"],
                 access["windows"], access["read-pages"],
                 access["nvm-read-pages"], access.get("granule", 0))


def set_parameters(vm, **parameters):
    vm.qmp("hybridmem-set", **parameters)


def memory_args(dram, nvm, nvm_path, **engine):
    """RAM of `dram` bytes in a memfd and `nvm` bytes in a file; `engine` are
    the parameters of the hybridmem object, with underscores for dashes."""
    parameters = "".join(f",{k.replace('_', '-')}={v}"
                         for k, v in engine.items())
    return ["-object", f"memory-backend-container,id=hm,size={dram + nvm}",
            "-object", f"memory-backend-devmem,id=dram0,size={dram},"
                       "mem-path=memfd,offset=0,parent=hm,tier=dram",
            "-object", f"memory-backend-devmem,id=nvm0,size={nvm},"
                       f"mem-path={nvm_path},phy-offset=0,offset={dram},"
                       "parent=hm,tier=nvm",
            "-object", f"hybridmem,id=hm0,memdev=hm{parameters}",
            "-m", f"{(dram + nvm) // MiB}M"]


def remove_stale(directory):
    """Files whose owner was killed: nobody holds their lock."""
    for path in directory.glob(SCRATCH_PREFIX + "*"):
        with contextlib.suppress(OSError), open(path, "rb") as f:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


@contextlib.contextmanager
def scratch_file(size, directory=BUILD):
    """The path of an empty file that ends with the block."""
    directory.mkdir(parents=True, exist_ok=True)
    remove_stale(directory)
    with tempfile.NamedTemporaryFile(prefix=SCRATCH_PREFIX,
                                     dir=directory) as f:
        # QEMU locks its images by other means (OFD locks).
        fcntl.flock(f, fcntl.LOCK_EX)
        f.truncate(size)
        yield f.name


def nvm_file(size):
    """A scratch file that stands for NVM: in /dev/shm if there is room to
    spare, else on the disk under build/."""
    shm = pathlib.Path("/dev/shm")
    roomy = shm.is_dir() and os.access(shm, os.W_OK) and \
        shutil.disk_usage(shm).free > size + 256 * MiB
    return scratch_file(size, shm if roomy else BUILD)
