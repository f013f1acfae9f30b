# SPDX-License-Identifier: GPL-2.0-or-later
"""The server's kernel and initramfs: Debian's kernel and programs, our QEMU
with its libraries and firmware, and tests/lab/server; kept under build/lab,
made again when an input changes."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shlex
from typing import NamedTuple

import guest
from guest.image import Cpio, busybox, contents, kernel, locked, run

from . import BUILD, LAB, LabError, images, kernels, software
from .hardware import Hardware

SERVER = LAB / "server"
PROGRAMS = ("qmp", "waitline", "mark", "scan", "symbol", "differ",
            "numapages", "holdpages", "fillnode", "turns",
            "freeranges")
CFLAGS = ("-O2", "-g0", "-Wall", "-Werror", "-static",
          "-I", str(guest.ROOT / "include"))

# Packages and the programs taken from them.
TOOLS = {"ndctl": ["usr/bin/ndctl"], "daxctl": ["usr/bin/daxctl"],
         "numactl": ["usr/bin/numactl"],
         "e2fsprogs": ["sbin/mke2fs"], "xfsprogs": ["sbin/mkfs.xfs"]}

# Modules in the image.  The first are loaded in every server, those of a
# device when the server has it, the rest by a script's modprobe.
ALWAYS = ("kvm_amd",)
NVDIMM = ("nfit", "libnvdimm", "nd_btt", "nd_pmem", "device_dax", "dax_pmem")
DISK = ("virtio_pci", "virtio_blk")
OTHER = ("kmem", "crc32c_generic", "ext4", "xfs", "loop", "virtio_pci",
         "virtio_blk", "tun", "vhost_net")

LIBRARIES = "lib/x86_64-linux-gnu"
LOADER = "lib64/ld-linux-x86-64.so.2"
FIRMWARE = ("/usr/share/seabios/*.bin", "/usr/lib/ipxe/qemu/*.rom")


class Image(NamedTuple):
    kernel: pathlib.Path
    initrd: pathlib.Path
    facts: dict             # what went in: versions and hashes


# Parts

def stripped(binary):
    """The program without debugging information, a fifth of the size, and
    without its build id, which is of the debugging information, too."""
    target = BUILD / "bin" / binary.name
    target.parent.mkdir(parents=True, exist_ok=True)
    run("strip", "-R", ".note.gnu.build-id", "-o", target, binary)
    return target


def libraries(binary):
    """{path in the server: file here} of what this machine's dynamic linker
    loads for a program."""
    files = {}
    for name, path in re.findall(r"(\S+) => (/\S+)", run("ldd", binary)):
        files[f"{LIBRARIES}/{name}"] = pathlib.Path(path)
    files[LOADER] = pathlib.Path("/" + LOADER)
    return files


def qemu_files(obj):
    files = {}
    for name in ("qemu-system-x86_64", "qemu-img"):
        files[f"usr/local/bin/{name}"] = stripped(obj / name)
        files |= libraries(obj / name)
    found = [p for pattern in FIRMWARE
             for p in pathlib.Path("/").glob(pattern[1:])]
    found += (obj / "pc-bios/optionrom").glob("*.bin")
    files |= {f"usr/share/qemu/{p.name}": p for p in found}
    for needed in ("bios-256k.bin", "linuxboot_dma.bin", "kvmvapic.bin"):
        if f"usr/share/qemu/{needed}" not in files:
            raise LabError(f"QEMU's firmware {needed} is missing: run make")
    return files


def tool_files():
    files = {}
    for name, programs in TOOLS.items():
        for path in programs:
            found = guest.package_program(name, path)
            found["usr/bin/" + os.path.basename(path)] = found.pop(path)
            files |= found
    return files


def own_program(name):
    target = BUILD / "bin" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc").split()
    run(*compiler, *CFLAGS, "-o", target, SERVER / f"{name}.c")
    return target


def own_files():
    files = {f"bin/{name}": own_program(name) for name in PROGRAMS}
    files["init"] = SERVER / "init"
    for name in ("lib.sh", "shrc", "motd"):
        files[f"lab/{name}"] = SERVER / name
    return files


def module_files(the_kernel):
    """Modules in one folder, and modules.dep, which lists for each what it
    needs, nearest first, as depmod would."""
    folder = f"lib/modules/{the_kernel.release}"
    files, lines = {}, {}
    for name in {*ALWAYS, *NVDIMM, *DISK, *OTHER}:
        found = the_kernel.modules(name)
        for module, data in found:
            files[f"{folder}/{module}.ko"] = data
        if found:
            needs = " ".join(f"{m}.ko" for m, _ in reversed(found[:-1]))
            lines[name] = f"{name}.ko: {needs}\n"
    for path in files:
        name = pathlib.Path(path).stem
        if name not in lines:
            needs = " ".join(f"{m}.ko" for m, _ in
                             reversed(the_kernel.modules(name)[:-1]))
            lines[name] = f"{name}.ko: {needs}\n"
    files[f"{folder}/modules.dep"] = "".join(
        lines[name] for name in sorted(lines)).encode()
    for empty in ("modules.alias", "modules.symbols"):
        files[f"{folder}/{empty}"] = b""
    return files


# The archive

def base(files):
    cpio = Cpio()
    cpio.device("dev/console", 5, 1)
    for folder in ("proc", "sys", "tmp", "run", "root", "mnt", "etc",
                   "lab/guests"):
        cpio.directory(folder)
    cpio.file("etc/mtab", b"", 0o644)
    for path, source in sorted(files.items()):
        cpio.file(path, contents(source))
    for applet in run(files["bin/busybox"], "--list").split():
        for folder in ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin"):
            if f"{folder}/{applet}" in cpio.seen:
                break
        else:
            cpio.link(f"bin/{applet}", "busybox")
    return cpio.finish()


# Cache

def stamp(path):
    info = path.stat()
    return f"{path}:{info.st_size}:{info.st_mtime_ns}"


def inputs(obj, the_kernel):
    """What the image depends on, as one hash: our files by their contents,
    those that others make by name, size and time."""
    key = hashlib.sha256()
    headers = (guest.ROOT / "include/hw/hybridmem").glob("meter*.h")
    for path in sorted([*SERVER.iterdir(), pathlib.Path(__file__), *headers]):
        key.update(path.name.encode() + path.read_bytes())
    others = [obj / "qemu-system-x86_64", obj / "qemu-img"]
    others += [p for p in libraries(others[0]).values()]
    for path in others:
        key.update(stamp(path).encode())
    key.update(the_kernel.release.encode())
    return key.hexdigest()[:16]


def versions(obj, the_kernel):
    """QEMU's version, and Debian's packages by version."""
    names = ["busybox-static", *TOOLS, "libc6"]
    text = run("apt-cache", "policy", *names)
    found = dict(re.findall(r"^(\S+):\n.*\n\s+Candidate: (\S+)", text, re.M))
    return {"qemu": run(obj / "qemu-system-x86_64",
                        "--version").splitlines()[0],
            "server kernel": the_kernel.release,
            "guest kernel": kernel().release, "packages": found}


def place_of(the_kernel):
    """Where the image with this kernel is kept, without a suffix."""
    own = the_kernel.release == kernels.of_release().release
    return "server" if own else f"server-{the_kernel.release}"


def server_image(obj, minimum="", tell=guest.say):
    """The server's Image with a kernel of version `minimum` or newer, made if
    it is not there or out of date."""
    the_kernel = kernels.at_least(minimum)
    with locked(BUILD):
        key = inputs(obj, the_kernel)
        initrd = BUILD / f"{place_of(the_kernel)}.cpio"
        facts = BUILD / f"{place_of(the_kernel)}.json"
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(facts.read_text())
            if known["key"] == key and initrd.exists():
                return Image(the_kernel.vmlinuz, initrd, known)
        tell("lab: making the server's image")
        tree = busybox()
        box = next(p for p in (tree / "bin/busybox", tree / "usr/bin/busybox")
                   if p.exists())
        data = base({**tool_files(), **qemu_files(obj), **own_files(),
                     **module_files(the_kernel), "bin/busybox": box})
        known = {"key": key, "sha256": hashlib.sha256(data).hexdigest(),
                 **versions(obj, the_kernel)}
        part = BUILD / f"{initrd.name}.part"
        part.write_bytes(data)
        part.rename(initrd)
        facts.write_text(json.dumps(known, indent=1) + "\n")
        tell(f"lab: {initrd.relative_to(guest.ROOT)}, {len(data) >> 20} MiB")
        return Image(the_kernel.vmlinuz, initrd, known)


# What a scenario adds

def guest_command(name, spec, image):
    """Shell text: options of the guest's QEMU."""
    append = f"{images.PARAMS} {spec.params}".strip()
    words = ["-accel", spec.accel, "-cpu", "host,-rdrand,-rdseed",
             "-nodefaults", "-no-reboot", "-seed", "7",
             "-machine", spec.machine, "-smp", str(spec.cpus),
             "-kernel", f"/lab/images/{image}/kernel",
             "-initrd", f"/lab/images/{image}/initrd", "-append", append]
    if spec.memory:
        words += ["-m", f"{spec.memory}M"]
    return shlex.join(words) + " " + " ".join(spec.options.split()) + "\n"


def program_files(scenario, obj):
    """Programs of QEMU's build folder, with their libraries."""
    files = {}
    for name in scenario.programs:
        path = obj / name
        if not path.exists():
            raise LabError(f"programs: {path} does not exist: "
                           f"ninja -C {obj} {name}")
        files[f"usr/local/bin/{path.name}"] = stripped(path)
        files |= libraries(path)
    return files


def scenario_files(scenario, obj):
    """({path: file or bytes}, {image: hash}) of one scenario: its scripts,
    its programs, its guests, their images, variables."""
    hardware = Hardware(scenario.server)
    modules = list(scenario.server.modules)
    modules += [*NVDIMM] * bool(scenario.server.nvdimm)
    modules += [*DISK] * bool(scenario.server.disk)
    files = {
        "lab/modules": " ".join(modules).encode(),
        "lab/env": "".join(f"{k}={v}\n" for k, v in
                           hardware.variables().items()).encode(),
        "lab/guests/.keep": b"", **software.files(scenario.server.software)}
    for i, boot in enumerate(scenario.boots):
        files[f"lab/boot-{i}.sh"] = boot.script.encode()
    for path, text in scenario.files.items():
        files[path.lstrip("/")] = text.encode()
    files |= program_files(scenario, obj)
    hashes = {}
    for name, spec in scenario.guests.items():
        image = images.by_name(spec.image)
        files[f"lab/images/{spec.image}/kernel"] = image.kernel
        files[f"lab/images/{spec.image}/initrd"] = image.initrd
        hashes[spec.image] = hashlib.sha256(
            image.initrd.read_bytes()).hexdigest()
        files[f"lab/guests/{name}"] = guest_command(
            name, spec, spec.image).encode()
    return files, hashes


def scenario_archive(files):
    cpio = Cpio()
    for path, source in sorted(files.items()):
        cpio.file(path, contents(source))
    return cpio.finish()


def boot_archive(boot):
    """The script that runs at this boot.  Boots with the same script have the
    same memory, to the byte: no number is among the kernel's parameters, which
    stir its random numbers, or in a file's name."""
    return scenario_archive({"lab/boot.sh": boot.script.encode()})


def pad(data):
    """Archives of one initramfs begin at multiples of 4 bytes."""
    return data + bytes(-len(data) % 4)


def object_folder():
    """Where QEMU was built; HYBRIDMEM_OBJ in the environment overrides."""
    obj = pathlib.Path(os.environ.get("HYBRIDMEM_OBJ") or
                       guest.ROOT / "build/10.0/obj")
    for name in ("qemu-system-x86_64", "qemu-img"):
        if not (obj / name).exists():
            raise LabError(f"{obj / name} does not exist: run make first")
    return obj
