# SPDX-License-Identifier: GPL-2.0-or-later
# Entry points.  Each installs what is missing, assembles the fork, builds
# what it needs and is quick when there is nothing to do; `make help` lists
# them.  The work is done by qemu/deps, ./configure, ninja and tests/.

BASE ?= 10.0
DIR  := build/$(BASE)
OBJ  := $(DIR)/obj
ASAN := $(DIR)/obj-sanitize

PROGRAMS := qemu-system-x86_64 qemu-img qemu-io qemu-nbd \
            storage-daemon/qemu-storage-daemon \
            hw/hybridmem/hybridmem-replay \
            contrib/plugins/libhybridmem-meter.so

# Options for the scripts behind demo, check-soak and the benches.
ARGS ?=

.PHONY: all build demo check check-bases check-soak bench-core bench-movers \
        bench-pause bench-peers bench-raminate clean help lab prepare programs

all: build

build: programs
	@echo "built: $(OBJ)/qemu-system-x86_64"

prepare:
	@qemu/deps build
	@./configure --refresh --base=$(BASE)

programs: prepare
	@ninja -C $(OBJ) $(PROGRAMS)

demo: programs
	@qemu/deps demo
	@tests/demo/run --binary $(OBJ)/qemu-system-x86_64 $(ARGS)

ifdef SANITIZE
check: prepare
	@qemu/deps check
	@./configure --refresh --base=$(BASE) --obj=obj-sanitize \
	    --enable-asan --enable-ubsan
	@tests/run-suites --obj $(OBJ) tsan $(ARGS)
	@ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	    tests/run-suites --obj $(ASAN) sanitize $(ARGS)
else
check: programs
	@qemu/deps check lab
	@HYBRIDMEM_OBJ=$(abspath $(OBJ)) tests/lab/run --build
	@tests/run-suites --obj $(OBJ) check $(ARGS)
endif

check-bases:
	@qemu/deps build check
	@tests/check-bases $(ARGS)

check-soak: programs
	@qemu/deps check
	@tests/run-suites --obj $(OBJ) soak $(ARGS)

bench-core: prepare
	@ninja -C $(OBJ) hw/hybridmem/hybridmem-bench-core
	@$(OBJ)/hw/hybridmem/hybridmem-bench-core $(ARGS)

bench-pause: programs
	@qemu/deps check
	@tests/bench/bench-pause --binary $(OBJ)/qemu-system-x86_64 $(ARGS)

# RAMinate's experiment in the lab.  What is there and up to date stays.
bench-raminate: lab
	@HYBRIDMEM_OBJ=$(abspath $(OBJ)) tests/bench/bench-raminate $(ARGS)

# The movers side by side in the lab.  What is there and up to date stays.
bench-movers: lab
	@HYBRIDMEM_OBJ=$(abspath $(OBJ)) tests/bench/bench-movers $(ARGS)

# The policies and their peers in the lab.  QUICK=1: a part of it.
bench-peers: lab
	@HYBRIDMEM_OBJ=$(abspath $(OBJ)) tests/bench/bench-peers $(ARGS)

# The images of the emulated server and its guests, and the meter.
lab: programs
	@qemu/deps demo lab
	@HYBRIDMEM_OBJ=$(abspath $(OBJ)) tests/lab/run --build

clean:
	rm -rf $(DIR) build/check build/demo

help:
	@echo "make                 assemble the fork and build QEMU in $(DIR)"
	@echo "make demo            the same guest with and without relocation"
	@echo "make check           all test suites; SANITIZE=1: under ASan, UBSan, TSan"
	@echo "make check-bases     hooks, -Werror build and our tests on every base"
	@echo "make check-soak      the long runs"
	@echo "make bench-core      cost of a window per page: heat and policies"
	@echo "make bench-pause     how long the guest stands still for n swaps"
	@echo "make bench-raminate  write traffic to NVM that policies leave"
	@echo "make bench-movers    the movers side by side: traffic, speed, cost at rest"
	@echo "make bench-peers     policies, Linux tiering, DAMON, memory mode; QUICK=1"
	@echo "make lab             images for tests/lab/run: a hybrid-memory server"
	@echo "make clean           remove what was built (not what was downloaded)"
	@echo "BASE=10.2 takes another QEMU; ARGS=... goes to the script behind."
