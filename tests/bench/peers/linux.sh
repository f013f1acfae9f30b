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

# A file takes what is free of node 0 besides.  That of a ramfs is neither
# reclaimed nor demoted.
take_the_rest() {
    mount -t ramfs ramfs /mnt
    lab_leave=$(reserve)
    dd if=/dev/zero of=/mnt/rest bs=64k \
        count=$((($(free_kib) - lab_leave) / 64)) 2>/dev/null
    result taken_kib "$(du -k /mnt/rest | cut -f 1)"
    result reserve_kib "$lab_leave"
    result free_before_kib "$(free_kib)"
}

# The guest begins where the others do: its first part in DRAM.
place() {
    lab_ram=$(ram_at vm)
    note "$(numapages move "$(guest_pid vm)" "$lab_ram" $((@dram@ << 20)) 0)"
    note "$(numapages move "$(guest_pid vm)" \
        $((lab_ram + (@dram@ << 20))) $((@nvm@ << 20)) 1)"
}

# where KEY: bytes of guest RAM that are in DRAM.
where() {
    on_nodes vm $((@memory@ << 20)) pages
    result "dram_$1" "$n0"
    result "nvm_$1" "$n1"
}

manage() {
    place
    take_the_rest
    where before
    put demotion_enabled 1 /sys/kernel/mm/numa/demotion_enabled
    put numa_balancing 2 /proc/sys/kernel/numa_balancing
}

# Threads take some of this over when they begin.
prepare() {
    note "node 1 is $(nvdimm_node nvm)"
    for lab_tier in "$tiers"/memory_tier*; do
        result "tier_${lab_tier##*memory_tier}" "$(cat "$lab_tier/nodelist")"
    done
    put scan_delay_ms @interval@ $balancing/scan_delay_ms
    put scan_period_max_ms $((60 * @interval@)) $balancing/scan_period_max_ms
    put scan_period_min_ms @interval@ $balancing/scan_period_min_ms
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
