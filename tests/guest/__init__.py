# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux guests for tests: images from Debian's packages and our own programs,
and the QEMU process that runs them.

    sys.path.insert(0, ".../tests")
    import guest
    image = guest.image("name", init=guest.program("workload"))
    with guest.Machine(qemu, guest.boot_args(image, "hm.rounds=10")) as vm:
        ...
"""

from .engine import (MiB, Seen, Stats, memory_args, nvm_file, scratch_file,
                     set_parameters, stats)
from .image import (BUILD, ROOT, GuestError, Image, image, kernel, package,
                    package_program, program, say, script_init)
from .machine import (Machine, QmpError, boot_args, choose_accel,
                      exit_on_signals, fork_binary)
