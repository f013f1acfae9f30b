# SPDX-License-Identifier: GPL-2.0-or-later
# The tests of tests/libvirt/run, in its root; prints TAP.

count=0
failed=0

ok() {
    count=$((count + 1))
    echo "ok $count - $*"
}

not_ok() {
    count=$((count + 1))
    failed=1
    echo "not ok $count - $*"
}

check() {
    text=$1
    shift
    if "$@"; then ok "$text"; else not_ok "$text"; fi
}

note() {
    echo "# $*"
}

die() {
    echo "Bail out! $*"
    exit 1
}

. /root/steps.sh
TYPE=qemu               # in place of kvm in the documented files

skip() {
    count=$((count + 1))
    echo "ok $count - $1 # SKIP $2"
}

libvirt_start
qemu-img convert -f raw -O qcow2 /root/guest.img $IMAGES/hybrid.qcow2

check "domcapabilities of our binary" step_capabilities qemu
for xml in attach attach-numa attach-hugepages container-devdax container; do
    check "$xml.xml is defined" step_define $DOCS/$xml.xml
done

check "a SPICE domain, by use-hybridmem" step_define_spice
check "it starts" run_quiet virsh start spice
virsh destroy spice >/dev/null

# The container form; its commands are docs/libvirt/README.md's.
mkdir -p /var/lib/libvirt/hybridmem
chown libvirt-qemu:kvm /var/lib/libvirt/hybridmem
check "container.xml starts, its guest works" step_start hybrid
check "QEMU is confined" step_confined hybrid
check "query-hybridmem by qemu-monitor-command" engine_works hybrid
check "qemu-monitor-event" step_event hybrid HYBRIDMEM_REBALANCE_COMPLETED \
    hybridmem-rebalance
check "save and restore" step_save hybrid
check "the engine works after restore" engine_works hybrid
check "managedsave and start" step_managedsave hybrid
check "object-del" step_object_del hybrid hm0
check "object-add" run_quiet monitor hybrid object-add \
    '{"qom-type": "hybridmem", "id": "hm1", "memdev": "dmcon0"}'
check "the new engine works" engine_works hybrid
check "shutdown by the power button" step_shutdown hybrid

# The attach form, where a second node is missing.
step_define $DOCS/attach.xml
if [ -d /sys/devices/system/node/node1 ]; then
    skip "attach.xml without node 1" "this machine has it"
    skip "object-add without node 1" "this machine has it"
    skip "the domain runs on" "this machine has node 1"
else
    check "attach.xml without node 1" \
        fails_with "slow-nodes 1: the host has no such NUMA node" \
        virsh start hybrid
    step_define_plain plain $EMULATOR
    step_start plain
    check "object-add without node 1" \
        fails_with "slow-nodes 1: the host has no such NUMA node" \
        monitor plain object-add "$ATTACH"
    check "the domain runs on" domain_state plain running
    virsh destroy plain >/dev/null
fi
echo "1..$count"
exit $failed
