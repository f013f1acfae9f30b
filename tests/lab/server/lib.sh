# SPDX-License-Identifier: GPL-2.0-or-later
# Functions for the scripts of scenarios; docs/lab.md says how to use them.
#
# What leaves the server are lines on file descriptor 3 (the second serial
# port), one word for what it is, then the rest:
#     result KEY JSON | ok TEXT | not_ok TEXT | mark NUMBER | note TEXT |
#     file NAME, then base64, then "." | die TEXT | end

. /lab/env

LAB_RUN=/run/guest          # a folder for each guest
lab_over=                   # set when the end was told

# --- Results ---------------------------------------------------------------

# note TEXT...: a line for the reader of the log.
note() {
    echo "lab: $*"
    echo "note $*" >&3
}

# result KEY VALUE: a number, or a text.
result() {
    case $2 in
    *[!0-9]*|'')
        result_json "$1" "\"$(printf %s "$2" | sed 's/[\\"]/\\&/g')\"" ;;
    0[0-9]*)
        result_json "$1" "\"$2\"" ;;
    *)
        result_json "$1" "$2" ;;
    esac
}

# result_json KEY JSON: anything; one line.
result_json() {
    echo "lab: $1 = $2"
    echo "result $1 $2" >&3
}

# ok TEXT..., not_ok TEXT...: a test of its own.
ok() {
    echo "lab: ok: $*"
    echo "ok $*" >&3
}

not_ok() {
    echo "lab: NOT OK: $*"
    echo "not_ok $*" >&3
}

# check TEXT COMMAND...: ok or not_ok, as the command ends.
check() {
    lab_text=$1
    shift
    if "$@"; then ok "$lab_text"; else not_ok "$lab_text"; fi
}

# keep FILE [NAME]: the file goes to the results.
keep() {
    [ -f "$1" ] || return 0
    {
        echo "file ${2:-$(basename "$1")}"
        base64 "$1"
        echo .
    } >&3
}

# mark NUMBER: here a phase of the meter begins.
mark() {
    echo "mark $1" >&3
    /bin/mark "$1"
}

# die TEXT...: the scenario has failed and ends here.
die() {
    echo "lab: DIED: $*"
    echo "die $*" >&3
    lab_over=1
    exit 1
}

# power_off_hard: the server loses its power now.
power_off_hard() {
    echo end >&3
    lab_over=1
    echo 1 >/proc/sys/kernel/sysrq
    echo b >/proc/sysrq-trigger
    sleep 60
}

# --- Guests ----------------------------------------------------------------

# start_guest NAME [OPTION...]: the guest of the scenario file, with more
# options for QEMU.  Returns when QEMU answers.
start_guest() {
    lab_name=$1
    shift
    [ -f "/lab/guests/$lab_name" ] ||
        die "start_guest: the scenario has no guest '$lab_name'"
    lab_dir=$LAB_RUN/$lab_name
    rm -rf "$lab_dir"
    mkdir -p "$lab_dir"
    : >"$lab_dir/console"
    mkfifo "$lab_dir/input"
    eval "set -- $(cat "/lab/guests/$lab_name") \"\$@\""
    printf '%s ' qemu-system-x86_64 "$@" >"$lab_dir/command"
    qemu-system-x86_64 "$@" -name "$lab_name" -display none \
        -chardev "file,id=console,path=$lab_dir/console,input-path=$lab_dir/input" \
        -serial chardev:console \
        -qmp "unix:$lab_dir/qmp,server=on,wait=off" \
        -qmp "unix:$lab_dir/qmp-events,server=on,wait=off" \
        </dev/null >"$lab_dir/log" 2>&1 3>&- 4<>"$lab_dir/input" &
    echo $! >"$lab_dir/pid"
    until [ -S "$lab_dir/qmp-events" ]; do
        guest_runs "$lab_name" || lab_qemu_died "$lab_name"
        sleep 0.05
    done
    qmp --record "$lab_dir/qmp-events" "$lab_dir/events" 3>&- &
    qmp "$lab_name" query-status >/dev/null || lab_qemu_died "$lab_name"
}

lab_qemu_died() {
    cat "$LAB_RUN/$1/log"
    die "$1: QEMU did not start: $(head -n 1 "$LAB_RUN/$1/log")"
}

# guest_pid NAME, guest_runs NAME: its QEMU's process.
guest_pid() {
    cat "$LAB_RUN/$1/pid"
}

guest_runs() {
    lab_state=$(sed -n 's/^State:[^A-Z]*\([A-Z]\).*/\1/p' \
                "/proc/$(guest_pid "$1")/status" 2>/dev/null) || :
    [ -n "$lab_state" ] && [ "$lab_state" != Z ]
}

# qmp NAME COMMAND [PATH]: a command's reply, or one value of it.
qmp() {
    case $1 in
    -*|/*) /bin/qmp "$@" ;;
    *)
        lab_socket=$LAB_RUN/$1/qmp
        shift
        /bin/qmp "$lab_socket" "$@" ;;
    esac
}

# hmp NAME COMMAND...: a command of the human monitor.
hmp() {
    lab_guest=$1
    shift
    printf '%b\n' "$(qmp "$lab_guest" "{\"execute\": \"human-monitor-command\",
        \"arguments\": {\"command-line\": \"$*\"}}" return)"
}

# tell_guest NAME TEXT...: a line on the guest's console, as if typed.
tell_guest() {
    lab_guest=$1
    shift
    echo "$*" >"$LAB_RUN/$lab_guest/input"
}

# wait_line NAME TEXT [SECONDS]: until the guest's console says so; prints
# the line.
wait_line() {
    lab_wait "$1" "$LAB_RUN/$1/console" "$2" "${3:-60}"
}

# wait_event NAME EVENT [SECONDS]: until QEMU has sent this event; prints it.
wait_event() {
    lab_wait "$1" "$LAB_RUN/$1/events" "\"$2\"" "${3:-60}"
}

lab_wait() {
    lab_code=0
    waitline "$2" "$3" "$4" "$(guest_pid "$1")" || lab_code=$?
    case $lab_code in
    0) ;;
    2) tail -n 20 "$LAB_RUN/$1/log"
       die "$1: ended without '$3'" ;;
    *) die "$1: no '$3' within $4 s" ;;
    esac
}

# wait_guest NAME [SECONDS]: until its QEMU has ended by itself.
wait_guest() {
    lab_left=$((${2:-60} * 10))
    while guest_runs "$1"; do
        lab_left=$((lab_left - 1))
        [ $lab_left -gt 0 ] || die "$1: still runs after ${2:-60} s"
        sleep 0.1
    done
}

# stop_guest NAME: quits its QEMU.
stop_guest() {
    if guest_runs "$1"; then
        qmp "$1" quit >/dev/null 2>&1 || :
        wait_guest "$1"
    fi
}

# kill_guest NAME: kill -9, as a crash or the kernel's OOM killer would end it.
kill_guest() {
    kill -9 "$(guest_pid "$1")"
    wait_guest "$1"
}

# scan_guest NAME START SIZE TEXT: what is in the guest's memory from physical
# address START on: "pages N nonzero N matches N"; see scan.c.
scan_guest() {
    lab_pipe=$LAB_RUN/$1/memory
    mkfifo "$lab_pipe"
    scan "$4" <"$lab_pipe" >"$LAB_RUN/$1/scan" 3>&- &
    lab_scan=$!
    qmp "$1" "{\"execute\": \"pmemsave\", \"arguments\": {\"val\": $(($2)),
        \"size\": $(($3)), \"filename\": \"$lab_pipe\"}}" >/dev/null
    wait "$lab_scan"
    rm "$lab_pipe"
    cat "$LAB_RUN/$1/scan"
}

# --- Memory devices --------------------------------------------------------

# nvdimm_namespace NAME MODE: makes a namespace (devdax or fsdax) on the
# scenario's nvdimm NAME; prints the device (/dev/dax0.0, /dev/pmem0).
nvdimm_namespace() {
    eval "lab_index=\$${1}_index"
    ndctl create-namespace -f -e "namespace$lab_index.0" -m "$2" -a 2M \
        >/tmp/namespace.json || die "ndctl create-namespace failed"
    case $2 in
    devdax) lab_dev=$(sed -n 's/.*"chardev":"\([^"]*\)".*/\1/p' \
                      /tmp/namespace.json | head -n 1) ;;
    *) lab_dev=$(sed -n 's/.*"blockdev":"\([^"]*\)".*/\1/p' \
                 /tmp/namespace.json) ;;
    esac
    [ -n "$lab_dev" ] || die "ndctl named no device: $(cat /tmp/namespace.json)"
    lab_left=100
    until [ -e "/dev/$lab_dev" ]; do
        lab_left=$((lab_left - 1))
        [ $lab_left -gt 0 ] || die "/dev/$lab_dev does not appear"
        sleep 0.1
    done
    echo "/dev/$lab_dev"
}

# nvdimm_node NAME: makes the scenario's nvdimm NAME the RAM of its node, for
# what can be moved; prints the device (dax0.0), which daxctl offline-memory and
# online-memory take.
nvdimm_node() {
    lab_dev=$(nvdimm_namespace "$1" devdax)
    modprobe kmem
    # The kernel is not to do it by itself, as memory that cannot be moved.
    echo offline >/sys/devices/system/memory/auto_online_blocks
    daxctl reconfigure-device -m system-ram "${lab_dev#/dev/}" >/tmp/daxctl 2>&1 ||
        die "daxctl: $(cat /tmp/daxctl)"
    echo "${lab_dev#/dev/}"
}

# mount_fsdax DEVICE FOLDER: ext4 with -o dax.
mount_fsdax() {
    modprobe -a crc32c_generic ext4
    # By its path: the shell would take its own mke2fs, for ext2.
    /usr/bin/mke2fs -q -F -t ext4 -b 4096 -E stride=512,stripe_width=512 "$1"
    mkdir -p "$2"
    mount -t ext4 -o dax "$1" "$2"
}

# --- NUMA -------------------------------------------------------------------

# ram_at NAME: where QEMU has the guest's RAM, an address of its process.
ram_at() {
    hmp "$1" gpa2hva 0 | tr -d '\r' | awk '/Host virtual/ { print $NF }'
}

# on_nodes NAME BYTES [maps|pages]: sets n0, n1, ... and absent: how many of
# the first BYTES of the guest's RAM lie on which node of the server, by
# numa_maps of its QEMU (then also policy), or page by page; see numapages.c.
on_nodes() {
    lab_nodes=$(numapages "${3:-maps}" "$(guest_pid "$1")" "$(ram_at "$1")" "$2")
    eval "$lab_nodes"
}

# residency NAME: sets fast, slow, elsewhere, missing: bytes, by QEMU's word.
residency() {
    qmp "$1" query-hybridmem >/tmp/residency
    fast=$(qmp --get return.0.tiers.0.resident </tmp/residency)
    slow=$(qmp --get return.0.tiers.1.resident </tmp/residency)
    elsewhere=$(qmp --get return.0.residency.elsewhere </tmp/residency)
    missing=$(qmp --get return.0.residency.absent </tmp/residency)
}

# wait_passes NAME: until QEMU has asked for all of the guest's RAM anew.
wait_passes() {
    lab_passes=$(qmp "$1" query-hybridmem return.0.residency.passes)
    lab_left=300
    # The pass that is under way began before.
    until [ "$(qmp "$1" query-hybridmem return.0.residency.passes)" -ge \
            $((lab_passes + 2)) ]; do
        lab_left=$((lab_left - 1))
        [ $lab_left -gt 0 ] || die "$1: residency is not looked at any more"
        sleep 0.1
    done
}

# --- The kernel's own counts ------------------------------------------------

# uprobe_start LIBRARY FUNCTION: from now on the server's kernel counts calls
# of a function, by any process.  uprobe_hits FUNCTION: how many there were.
uprobe_start() {
    lab_lib=$(ls "/lib/x86_64-linux-gnu/$1") || die "uprobe_start: no $1"
    lab_at=$(symbol "$lab_lib" "$2") || die "uprobe_start: no $2 in $1"
    grep -q tracefs /proc/mounts ||
        mount -t tracefs tracefs /sys/kernel/tracing
    echo "p:lab/$2 $lab_lib:$lab_at" >>/sys/kernel/tracing/uprobe_events
    echo 1 >"/sys/kernel/tracing/events/lab/$2/enable"
}

uprobe_hits() {
    awk -v name="$1" '$2 == name { hits = $3 } END { print hits + 0 }' \
        /sys/kernel/tracing/uprobe_profile
}

# --- Other tests ------------------------------------------------------------

# tap FILE: the cases in FILE, the output of a test program with --tap, become
# lines of the outcome; the file goes to the results.
tap() {
    awk -v name="$(basename "$1")" '
        /^1\.\./ { plan = substr($0, 4) + 0 }
        /^(not )?ok / {
            word = /^not/ ? "not_ok" : "ok"
            sub(/^(not )?ok [0-9]+ (- )?/, "")
            print word, $0
            cases++
            last = ""
            next
        }
        /^Bail out!/ || (/[^ ]/ && last !~ /^Bail out!/) { last = $0 }
        END {
            if (!plan || cases != plan)
                print "not_ok", name, "broke off after case", cases + 0 \
                    (last == "" ? "" : ": " last)
        }' "$1" >&3
    keep "$1"
}

# --- Begin and end ---------------------------------------------------------

lab_begin() {
    mkdir -p "$LAB_RUN"
    trap 'lab_leave $?' EXIT
}

# The scripts' exit, however it came about.
lab_leave() {
    trap - EXIT
    if [ -z "$lab_over" ]; then
        echo "lab: DIED: the script ended with status $1"
        echo "die the script ended with status $1, see the console" >&3
    fi
    lab_collect
    exit 0
}

lab_collect() {
    for lab_dir in "$LAB_RUN"/*; do
        [ -d "$lab_dir" ] || continue
        lab_name=${lab_dir##*/}
        for lab_file in command console log events; do
            [ ! -s "$lab_dir/$lab_file" ] ||
                keep "$lab_dir/$lab_file" "$lab_name.$lab_file"
        done
    done
}

lab_end() {
    for lab_dir in "$LAB_RUN"/*; do
        [ ! -d "$lab_dir" ] || stop_guest "${lab_dir##*/}"
    done
    echo end >&3
    lab_over=1
}
