# Functions of a cell that the server's kernel manages by itself: NUMA balancing
# promotes, reclaim demotes.  QEMU has ordinary memory and no engine.

mount -t debugfs debugfs /sys/kernel/debug
balancing=/sys/kernel/debug/sched/numa_balancing
tiers=/sys/devices/virtual/memory_tiering
echo 0 >/proc/sys/kernel/numa_balancing

# put KEY VALUE FILE: sets it, and tells what it then is.
put() {
    echo "$2" >"$3"
    result "set_$1" "$(cat "$3")"
}

# What is to stay free of node 0, KiB: as much as the kernel demotes for before
# it promotes (that mark lies above the high one as the high above the low one),
# and the first 16 MiB, which it keeps for devices.
reserve() {
    awk '$1 == "Node" { node = $2; zone = $4 }
         node != "0," { next }
         zone == "DMA" && $1 == "pages" { sum += $3 }
         $1 == "low" { low = $2 }
         zone != "DMA" && $1 == "high" { sum += 2 * $2 - low }
         END { print 4 * sum }' /proc/zoneinfo
}

free_kib() {
    awk '/MemFree/ { print $4 }' /sys/devices/system/node/node0/meminfo
}

# take MIB: of node 0, for files.  Those of a ramfs are neither reclaimed nor
# demoted.
taken=0
take() {
    lab_left=$1
    while [ "$lab_left" -gt 0 ]; do
        lab_size=$((lab_left > 64 ? 64 : 1))
        taken=$((taken + 1))
        dd if=/dev/zero of=/mnt/$taken bs=64k count=$((lab_size * 16)) 2>/dev/null
        lab_left=$((lab_left - lab_size))
    done
}

# Back to the guest and the kernel.
give_one() {
    rm /mnt/$taken
    taken=$((taken - 1))
}

# The guests begin where others do: the first part of each in DRAM.
place() {
    for lab_vm in $vms; do
        lab_ram=$(ram_at "$lab_vm")
        note "$(numapages move "$(guest_pid "$lab_vm")" "$lab_ram" \
            $((@dram@ << 20)) 0)"
        note "$(numapages move "$(guest_pid "$lab_vm")" \
            $((lab_ram + (@dram@ << 20))) $((@nvm@ << 20)) 1)"
    done
}

# resident: sets dram and nvm: bytes of guest RAM.  share: what all guests are
# to have of DRAM.
resident() {
    dram=0 nvm=0 share=0
    for lab_vm in $vms; do
        on_nodes "$lab_vm" $((@memory@ << 20)) pages
        dram=$((dram + n0))
        nvm=$((nvm + n1))
        share=$((share + (@dram@ << 20)))
    done
}

# What the server itself does not use would make room for the guest, which is
# not to have more of DRAM than it has elsewhere: it is demoted before.
squeeze() {
    lab_more=$((($(free_kib) - $(reserve)) / 1024))
    [ "$lab_more" -le 0 ] || take $lab_more
    for lab_round in 1 2 3 4; do
        for lab_vm in $vms; do take 12; done
        sleep 0.5
        place
    done
}

# Neither is it to have less: what is placed there and demoted again at once
# shows that the kernel wants more than its reserve, so it gets some of that.
hold() {
    for lab_round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        while [ "$(free_kib)" -lt "$(reserve)" ]; do give_one; done
        place
        sleep 0.2
        resident
        lab_lack=$(((share - dram + 0x3fffff) / 0x400000))
        [ "$(free_kib)" -lt "$(reserve)" ] || [ $lab_lack -gt 0 ] || return 0
        while [ $lab_lack -gt 0 ]; do
            give_one
            lab_lack=$((lab_lack - 1))
        done
    done
}

# where KEY: bytes of guest RAM that are in DRAM.
where() {
    resident
    result "dram_$1" "$dram"
    result "nvm_$1" "$nvm"
}

manage() {
    mount -t ramfs ramfs /mnt
    put demotion_enabled 1 /sys/kernel/mm/numa/demotion_enabled
    place
    squeeze
    hold
    where before
    result reserve_kib "$(reserve)"
    result free_before_kib "$(free_kib)"
    put numa_balancing 2 /proc/sys/kernel/numa_balancing
}

# Threads take some of this over when they begin.
prepare() {
    result set_kernel "$(uname -r)"
    note "node 1 is $(nvdimm_node nvm)"
    for lab_tier in "$tiers"/memory_tier*; do
        result "tier_${lab_tier##*memory_tier}" "$(cat "$lab_tier/nodelist")"
    done
    put scan_delay_ms @period@ $balancing/scan_delay_ms
    put scan_period_max_ms $((60 * @period@)) $balancing/scan_period_max_ms
    put scan_period_min_ms @period@ $balancing/scan_period_min_ms
    put scan_size_mb @scan@ $balancing/scan_size_mb
    put hot_threshold_ms @interval@ $balancing/hot_threshold_ms
}

# vmstat KEY: the kernel's counters that matter here.
vmstat() {
    result_json "vmstat_$1" "{$(awk '
        /^(pgpromote|pgdemote|numa_hint_faults|numa_pte_updates|pgmigrate)/ {
            printf "%s\"%s\": %s", comma, $1, $2; comma = ", "
        }' /proc/vmstat)}"
}

before() {
    vmstat before
}

after() {
    vmstat after
    where after
    result free_after_kib "$(free_kib)"
}
