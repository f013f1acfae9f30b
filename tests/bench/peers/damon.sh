# Functions of a cell that DAMON manages, as damo's scripts/mem_tier.sh and the
# kernel's samples/damon/mtier.c do: a kdamond for each node watches its
# physical addresses; that of DRAM demotes what nobody accesses, that of NVM
# promotes what is accessed, page by page of the regions found.  QEMU has
# ordinary memory and no engine.

damon=/sys/kernel/mm/damon/admin/kdamonds
tiers=/sys/devices/virtual/memory_tiering
node0=/sys/devices/system/node/node0
hugepages=$node0/hugepages/hugepages-2048kB/nr_hugepages
cgroup=/sys/fs/cgroup

# put KEY VALUE FILE: sets it, and tells what it then is.
put() {
    echo "$2" >"$3"
    result "set_$1" "$(cat "$3")"
}

# QEMU is in a cgroup of its own: nothing else is to be moved.
prepare() {
    result set_kernel "$(uname -r)"
    note "node 1 is $(nvdimm_node nvm)"
    for lab_tier in "$tiers"/memory_tier*; do
        result "tier_${lab_tier##*memory_tier}" "$(cat "$lab_tier/nodelist")"
    done
    put numa_balancing 0 /proc/sys/kernel/numa_balancing
    put demotion_enabled 1 /sys/kernel/mm/numa/demotion_enabled
    mkdir -p $cgroup
    mount -t cgroup2 cgroup2 $cgroup
    echo +memory >$cgroup/cgroup.subtree_control
    mkdir $cgroup/guest
    echo $$ >$cgroup/guest/cgroup.procs
}

# What is to stay free of node 0, KiB: its zones' high marks, up to which the
# kernel demotes, and the first 16 MiB, which it keeps for devices.
reserve() {
    awk '$1 == "Node" { node = $2; zone = $4 }
         node != "0," { next }
         zone == "DMA" && $1 == "pages" { sum += $3 }
         zone != "DMA" && $1 == "high" { sum += $2 }
         END { print 4 * sum }' /proc/zoneinfo
}

free_kib() {
    awk '/MemFree/ { print $4 }' $node0/meminfo
}

# What QEMU has besides the guest's RAM would make room for that, which is not
# to have more of DRAM than it has elsewhere: it goes to node 1, and what is hot
# of it may come back.
make_way() {
    lab_pid=$(guest_pid vm)
    lab_ram=$(($(ram_at vm)))
    sed -n 's/^\([^-]*\)-\([^ ]*\) rw-p.*/\1 \2/p' "/proc/$lab_pid/maps" >/tmp/maps
    while read -r lab_from lab_to; do
        [ $((0x$lab_from)) -ge $((lab_ram + (@memory@ << 20))) ] ||
            [ $((0x$lab_to)) -le $lab_ram ] || continue
        numapages move "$lab_pid" 0x$lab_from $((0x$lab_to - 0x$lab_from)) 1 \
            >/dev/null
    done </tmp/maps
}

# The guest begins where the others do: its first part in DRAM.
place() {
    lab_ram=$(ram_at vm)
    note "$(numapages move "$(guest_pid vm)" "$lab_ram" $((@dram@ << 20)) 0)"
    note "$(numapages move "$(guest_pid vm)" \
        $((lab_ram + (@dram@ << 20))) $((@nvm@ << 20)) 1)"
}

# What is free besides the reserve goes to huge pages, which DAMON does not
# look at, and the rest to files.
fill() {
    lab_more=$((($(free_kib) - $(reserve)) / 2048))
    echo $((lab_more > 0 ? lab_more : 0)) >$hugepages
    mount -t ramfs ramfs /mnt
    lab_files=0
    while [ $(($(free_kib) - $(reserve))) -gt 1024 ]; do
        lab_files=$((lab_files + 1))
        dd if=/dev/zero of=/mnt/$lab_files bs=64k count=16 2>/dev/null
    done
    hold
}

# The kernel may have demoted some of the guest meanwhile, and do so again: it
# gets back of the files what it needs to stay.
hold() {
    for lab_round in 1 2 3 4 5 6 7 8; do
        sleep 0.2
        place
        sleep 0.2
        on_nodes vm $((@memory@ << 20)) pages
        [ $(((@dram@ << 20) - n0)) -gt 524288 ] && [ $lab_files -gt 0 ] ||
            return 0
        rm /mnt/$lab_files
        lab_files=$((lab_files - 1))
    done
}

# where KEY: bytes of guest RAM that are in DRAM.
where() {
    on_nodes vm $((@memory@ << 20)) pages
    result "dram_$1" "$n0"
    result "nvm_$1" "$n1"
    result "free_$1_kib" "$(free_kib)"
}

# below N PATH VALUE...: pairs, of the context of kdamond N.
below() {
    lab_at=$damon/$1/contexts/0
    shift
    while [ $# -gt 0 ]; do
        echo "$2" >"$lab_at/$1"
        shift 2
    done
}

# regions N: it watches the ranges, each "START END", on its standard input.
regions() {
    lab_at=$damon/$1/contexts/0/targets/0/regions
    cat >/tmp/regions
    wc -l </tmp/regions >"$lab_at/nr_regions"
    lab_n=0
    while read -r lab_from lab_to; do
        echo "$lab_from" >"$lab_at/$lab_n/start"
        echo "$lab_to" >"$lab_at/$lab_n/end"
        lab_n=$((lab_n + 1))
    done </tmp/regions
    result "regions_$1" "$lab_n"
}

# watch N ACTION NODE MIN MAX MATCHING: kdamond N; what had MIN to MAX accesses of
# 20 goes to NODE.  MATCHING: Y keeps young pages out, N others.
watch() {
    echo 1 >$damon/$1/contexts/nr_contexts
    below "$1" operations paddr \
        monitoring_attrs/intervals/sample_us $((@interval@ * 50)) \
        monitoring_attrs/intervals/aggr_us $((@interval@ * 1000)) \
        monitoring_attrs/intervals/update_us $((@interval@ * 60000)) \
        monitoring_attrs/nr_regions/max @regions@ \
        monitoring_attrs/nr_regions/min 10 \
        targets/nr_targets 1 \
        schemes/nr_schemes 1 schemes/0/action "$2" schemes/0/target_nid "$3" \
        schemes/0/apply_interval_us $((@interval@ * 1000)) \
        schemes/0/access_pattern/sz/min 4096 \
        schemes/0/access_pattern/sz/max 18446744073709551615 \
        schemes/0/access_pattern/nr_accesses/min "$4" \
        schemes/0/access_pattern/nr_accesses/max "$5" \
        schemes/0/access_pattern/age/min 0 \
        schemes/0/access_pattern/age/max 4294967295 \
        schemes/0/quotas/reset_interval_ms @interval@ \
        schemes/0/quotas/bytes @quota@ \
        schemes/0/quotas/weights/sz_permil 0 \
        schemes/0/quotas/weights/nr_accesses_permil 100 \
        schemes/0/quotas/weights/age_permil 100 \
        schemes/0/filters/nr_filters 2 \
        schemes/0/filters/0/type memcg schemes/0/filters/0/matching N \
        schemes/0/filters/0/memcg_path /guest \
        schemes/0/filters/1/type young schemes/0/filters/1/matching "$6"
}

# The quota of what goes down is tuned so that a part of DRAM is free for what is
# promoted, as mem_tier.sh has it.  Linux 6.12 cannot measure that by itself (6.16
# can), so it is told, once in an interval: what is free besides the reserve, to
# the guest's share.  mem_tier.sh also tunes promotion, for 99.7 % in use; from a
# DRAM that is full that begins at one byte and grows by a thousandth in an
# interval, so nothing would come up in the time that there is here.
goal=$damon/0/contexts/0/schemes/0/quotas/goals
feed() {
    while :; do
        while read -r _ _ lab_key lab_free _; do
            [ "$lab_key" != MemFree: ] || break
        done <$node0/meminfo
        lab_free=$(((lab_free - reserved) * 10000 / (@dram@ << 10)))
        [ $lab_free -gt 0 ] || lab_free=0
        echo $lab_free >$goal/0/current_value
        echo commit_schemes_quota_goals >$damon/0/state
        usleep $((@interval@ * 1000))
    done
}

manage() {
    echo $$ >$cgroup/cgroup.procs
    # None of the first 16 MiB for guests.
    echo 1 >/proc/sys/vm/lowmem_reserve_ratio
    make_way
    place
    fill
    where before
    reserved=$(reserve)
    result reserve_kib "$reserved"
    echo 2 >$damon/nr_kdamonds
    watch 0 migrate_cold 1 0 0 Y
    watch 1 migrate_hot 0 1 20 N
    echo 1 >$goal/nr_goals
    echo user_input >$goal/0/target_metric
    echo @free@ >$goal/0/target_value
    # Of node 0 only what the guest has or may get: quotas are for regions that
    # are tried, and the server's own are the coldest.
    freeranges /proc/kpageflags "$node0_start" "$node0_size" 64 | regions 0
    echo "$((nvm_start)) $((nvm_start + nvm_size))" | regions 1
    for lab_n in 0 1; do
        echo on >$damon/$lab_n/state
        tell_of $lab_n
    done
    result set_free_goal_bp "$(cat $goal/0/target_value)"
    feed &
    feeder=$!
}

# tell_of N: what was set, as the kernel has it.
tell_of() {
    lab_words=
    for lab_key in state contexts/0/monitoring_attrs/intervals/sample_us \
        contexts/0/monitoring_attrs/intervals/aggr_us \
        contexts/0/monitoring_attrs/nr_regions/max \
        contexts/0/schemes/0/action contexts/0/schemes/0/target_nid \
        contexts/0/schemes/0/apply_interval_us \
        contexts/0/schemes/0/access_pattern/nr_accesses/min \
        contexts/0/schemes/0/access_pattern/nr_accesses/max \
        contexts/0/schemes/0/quotas/bytes \
        contexts/0/schemes/0/quotas/reset_interval_ms \
        contexts/0/schemes/0/filters/0/type \
        contexts/0/schemes/0/filters/0/memcg_path \
        contexts/0/schemes/0/filters/0/matching \
        contexts/0/schemes/0/filters/1/type \
        contexts/0/schemes/0/filters/1/matching; do
        lab_name=${lab_key#contexts/0/}
        lab_name=${lab_name#schemes/0/}
        lab_words="$lab_words${lab_words:+ }${lab_name#monitoring_attrs/}"
        lab_words="$lab_words=$(cat $damon/$1/$lab_key)"
    done
    result "set_kdamond_$1" "$lab_words"
}

# scheme N: what that of kdamond N did.
scheme() {
    echo update_schemes_stats >$damon/$1/state
    lab_json=
    for lab_key in nr_tried sz_tried nr_applied sz_applied qt_exceeds; do
        lab_json="$lab_json${lab_json:+, }\"$lab_key\": $(cat \
            $damon/$1/contexts/0/schemes/0/stats/$lab_key)"
    done
    result_json "scheme_$1" "{$lab_json}"
}

# vmstat KEY: the kernel's counters that matter here.
vmstat() {
    result_json "vmstat_$1" "{$(awk '
        /^(pgpromote|pgdemote|pgmigrate)/ {
            printf "%s\"%s\": %s", comma, $1, $2; comma = ", "
        }' /proc/vmstat)}"
}

before() {
    vmstat before
}

# One command at a time, and the feeder's may not be done: else EBUSY.
after() {
    kill $feeder
    wait $feeder || :
    scheme 0
    scheme 1
    vmstat after
    where after
}
