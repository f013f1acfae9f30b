# SPDX-License-Identifier: GPL-2.0-or-later
"""gcc, run by make: Berkeley TestFloat, as it lies in QEMU's source.

files   C files to compile, times `work` percent, at most 150: three of 800 to
        5000 lines first, then small ones
first   C files compiled before them, in phase 1
jobs    compilers at once
"""

import os
import pathlib

from . import guest, packages, programs, tree

memory = 256
params = {"files": 45, "first": 3, "jobs": 2}

OBJ = pathlib.Path(os.environ.get("HYBRIDMEM_OBJ") or
                   guest.ROOT / "build/10.0/obj")
SOURCES = OBJ.parent / "tree/subprojects"
FOLDERS = ("berkeley-softfloat-3", "berkeley-testfloat-3")
MAKE = "make -s -C /src/berkeley-testfloat-3/build/Linux-x86_64-GCC"

# In the Makefile's order backwards, that is the large ones first, without the
# largest three, which would be most of the work, and without the one that only
# compiles with QEMU's own SoftFloat.
setup = f"""
touch /src/berkeley-softfloat-3/build/Linux-x86_64-GCC/softfloat.a
{MAKE} -n all | sed -n 's/.* -o \\([^ ]*[.]o\\) .*/\\1/p' |
    grep -v -x -e slowfloat.o -e verLoops.o -e genLoops.o -e testfloat.o |
    tac >/tmp/objects
"""
warm = f"""
{MAKE} -j $jobs $(head -n $first /tmp/objects)
"""
run = f"""
files=$((files * work / 100))
{MAKE} -j $jobs $(tail -n +$((first + 1)) /tmp/objects | head -n $files)
echo ops=$files
"""
verify = """
cd /src/berkeley-testfloat-3/build/Linux-x86_64-GCC
echo checksum=$(sha256sum *.o | sha256sum | cut -c 1-16)
"""

# Of all that gcc depends on, what compiling C needs.
NEEDED = (r"(gcc|cpp|binutils)-\S*|lib(c6|gcc|stdc)\S*|"
          r"lib(gmp|isl|mpc|mpfr|zstd|jansson|binutils|ctf|sframe)\S*|"
          r"linux-libc-dev|zlib1g")
TOOLS = {"gcc": "gcc", "make": "make", "as": "x86_64-linux-gnu-as",
         "ar": "x86_64-linux-gnu-ar"}
HEADERS = ("*.h", "x86_64-linux-gnu/bits/**/*", "x86_64-linux-gnu/gnu/*",
           "x86_64-linux-gnu/sys/*", "x86_64-linux-gnu/asm/*",
           "asm-generic/*", "linux/limits.h", "linux/errno.h")


def files():
    if not SOURCES.exists():
        raise guest.GuestError(f"{SOURCES} does not exist: run make first")
    root = packages("gcc", "make", "libc6-dev", libraries=NEEDED)
    cc1 = next(root.glob("usr/lib*/gcc/x86_64-linux-gnu/*/cc1"))
    found = programs(root, *(f"usr/bin/{name}" for name in TOOLS.values()),
                     str(cc1.relative_to(root)))
    for name, target in TOOLS.items():
        found[f"usr/bin/{name}"] = found.pop(f"usr/bin/{target}")
    for pattern in HEADERS:
        found.update(tree(root / "usr/include", "usr/include", pattern))
    for header in ("std*.h", "*limits.h", "float.h"):
        found.update(tree(root / "usr", "usr",
                          f"lib/gcc/*/*/include/{header}"))
    for folder in FOLDERS:
        found.update(tree(SOURCES / folder, f"src/{folder}", "source/**/*"))
        found.update(tree(SOURCES / folder, f"src/{folder}",
                          "build/Linux-x86_64-GCC/*"))
    return found
