# Functions for the scripts of bench-movers's cells; lab.py puts them first.

mount -t debugfs debugfs /sys/kernel/debug

# engine NAME=VALUE...: sets parameters, in JSON, without the outer braces.
engine() {
    qmp vm '{"execute": "hybridmem-set", "arguments": {'"$1"'}}' >/dev/null
}

# tell_engine NAME: all that it says of itself.
tell_engine() {
    result_json "$1" "$(qmp vm query-hybridmem return.0)"
}

moves() {
    qmp vm query-hybridmem return.0.counters.moves-done
}

# kvm COUNT: what KVM has counted for the guest.
kvm() {
    cat /sys/kernel/debug/kvm/*-*/"$1"
}

# tell_kvm NAME: its counts that matter here.
tell_kvm() {
    result_json "$1" "{\"faults\": $(kvm pf_taken), \"exits\": $(kvm exits), \
\"flushes\": $(kvm remote_tlb_flush_requests), \
\"signals\": $(kvm signal_exits)}"
}

# The server's clock, microseconds.
now() {
    adjtimex | awk '/time.tv_sec/ { s = $NF } /time.tv_usec/ { us = $NF }
        END { printf "%d%06d\n", s, us }'
}

# boot: the guest, ready to work.  The first of its RAM is on the fast node,
# the rest on the slow one; the engine is off.
boot() {
    # For a mapping for each block.
    echo 262144 >/proc/sys/vm/max_map_count
    start_guest vm
    wait_line vm "hm: ready" 900
    place
    steps=0
}

# begin LINE, then ended NAME: a step of the guest's work (see steps.c).
begin() {
    steps=$((steps + 1))
    tell_guest vm "$1"
}

ended() {
    lab_line=$(wait_line vm "hm: step $steps " 900 | tr -d '\r')
    [ -z "${1:-}" ] || result "$1" "${lab_line##*us=}"
}
