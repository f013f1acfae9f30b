# SPDX-License-Identifier: GPL-2.0-or-later
# Steps of the libvirt tests, for busybox's shell: in the lab's server, and in
# the private root of tests/libvirt/run.  Who sources this has ok, not_ok,
# check, note and die (tests/lab/server/lib.sh).

export LIBVIRT_DEFAULT_URI=qemu:///system LC_ALL=C
DOCS=/root/hybridmem/docs/libvirt
EMULATOR=/usr/local/bin/qemu-hybridmem
IMAGES=/var/lib/libvirt/images
OUT=/tmp/libvirt                # what commands said
mkdir -p $OUT

# --- The daemons -------------------------------------------------------------

# libvirt_host: what a Debian host has that the lab's server has not: cgroups,
# AppArmor's profiles, systemctl and udevadm; Debian's QEMU, for which ours
# stands in, and ours in a clone of the repository.
libvirt_host() {
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mount -t securityfs securityfs /sys/kernel/security
    mkdir /dev/hugepages
    mount -t hugetlbfs hugetlbfs /dev/hugepages
    chown root:kvm /dev/kvm
    chmod 660 /dev/kvm
    mkdir -p /root/hybridmem/build/10.0/obj /etc/udev/rules.d
    mv /usr/local/bin/qemu-system-x86_64 /root/hybridmem/build/10.0/obj/
    cp /root/hybridmem/build/10.0/obj/qemu-system-x86_64 /usr/bin/
    libvirt_local=/etc/apparmor.d/local
    mkdir -p $libvirt_local/abstractions
    touch $libvirt_local/usr.sbin.libvirtd \
        $libvirt_local/usr.lib.libvirt.virt-aa-helper \
        $libvirt_local/abstractions/libvirt-qemu
    libvirt_shim systemctl '. /root/steps.sh; systemctl_is_asked "$@"'
    libvirt_shim udevadm '. /root/steps.sh; udevadm_is_asked "$@"'
    systemctl reload apparmor || die "AppArmor's parser fails"
    grep -q '^libvirtd (enforce)' /sys/kernel/security/apparmor/profiles ||
        die "AppArmor has no profile for libvirtd"
}

libvirt_shim() {
    printf '#!/bin/sh\n%s\n' "$2" >"/usr/local/bin/$1"
    chmod 755 "/usr/local/bin/$1"
}

systemctl_is_asked() {
    case $* in
    "reload apparmor") apparmor_parser -r /etc/apparmor.d/usr.* ;;
    "restart libvirtd")
        libvirt_pid=$(cat /run/libvirtd.pid)
        kill "$libvirt_pid"
        wait_until 30 [ ! -e "/proc/$libvirt_pid" ] && libvirtd -d &&
            wait_until 30 run_quiet virsh list ;;
    *) echo "systemctl $*: not known"; return 1 ;;
    esac
}

# The server has no udev: the rule of docs/libvirt by hand.
udevadm_is_asked() {
    case $* in
    "control --reload") ;;
    trigger*)
        libvirt_rule=/etc/udev/rules.d/60-hybridmem.rules
        for libvirt_device in /sys/bus/dax/devices/dax*; do
            libvirt_device=/dev/${libvirt_device##*/}
            chgrp "$(sed -n 's/^SUBSYSTEM=="dax".*GROUP="\([^"]*\)".*/\1/p' \
                     $libvirt_rule)" "$libvirt_device"
            chmod "$(sed -n 's/^SUBSYSTEM=="dax".*MODE="\([^"]*\)".*/\1/p' \
                     $libvirt_rule)" "$libvirt_device"
        done ;;
    *) echo "udevadm $*: not known"; return 1 ;;
    esac
}

# libvirt_start: folders as Debian's packages make them, and the daemons.
libvirt_start() {
    mkdir -p $IMAGES /var/lib/libvirt/qemu/save /var/log/libvirt/qemu \
        /var/cache/libvirt/qemu /run/libvirt /var/lib/libvirt/boot
    [ -e /var/run ] || ln -s ../run /var/run
    chown libvirt-qemu:kvm /var/lib/libvirt/qemu /var/cache/libvirt/qemu
    chmod 711 $IMAGES /var/cache/libvirt
    virtlogd -d || die "virtlogd does not start"
    libvirtd -d || die "libvirtd does not start"
    wait_until 60 run_quiet virsh list >/dev/null ||
        die "libvirtd does not answer: $(cat "$OUT/out")"
    note "$(libvirtd --version)"
}

# wait_until SECONDS COMMAND...: until it succeeds.
wait_until() {
    libvirt_left=$1
    shift
    until "$@"; do
        libvirt_left=$((libvirt_left - 1))
        [ $libvirt_left -gt 0 ] || return 1
        sleep 1
    done
}

# readme_commands SECTION: the commands of a section of docs/libvirt/README.md.
readme_commands() {
    awk -v "title=## $1" '
        /^## / { here = $0 == title }
        /^```/ { shown = $0 == "```sh"; next }
        here && shown' $DOCS/README.md
}

# follow_readme SECTION [FIRST [LAST]]: runs them as they stand, from the
# repository's folder; stops at one that fails.
follow_readme() {
    readme_commands "$1" | sed -n "${2:-1},${3:-\$}p" >"$OUT/commands"
    [ -s "$OUT/commands" ] || { echo "no commands in '$1'"; return 1; }
    (cd /root/hybridmem && run_quiet sh -e "$OUT/commands")
}

# --- Domains -----------------------------------------------------------------

# domain_state DOMAIN [WANTED]: prints it, or compares.
domain_state() {
    libvirt_state=$(virsh domstate "$1" 2>/dev/null | head -n 1)
    if [ $# = 1 ]; then echo "$libvirt_state"; else
        [ "$libvirt_state" = "$2" ]
    fi
}

# monitor DOMAIN COMMAND [ARGUMENTS]: a QMP command as a user would give it;
# virsh succeeds although QEMU says no.
monitor() {
    virsh qemu-monitor-command "$1" --pretty \
        "{\"execute\": \"$2\"${3:+, \"arguments\": $3}}" >"$OUT/reply" 2>&1
    libvirt_code=$?
    cat "$OUT/reply"
    [ $libvirt_code = 0 ] && ! grep -q '^  "error": {' "$OUT/reply"
}

# listen DOMAIN: what the guest prints from now on goes to $OUT/console.
listen() {
    : >"$OUT/console"
    cat "$(virsh ttyconsole "$1" | head -n 1)" >"$OUT/console" 2>/dev/null &
}

# hear TEXT [SECONDS]: until the guest has printed it.
hear() {
    wait_until "${2:-120}" grep -qF -- "$1" "$OUT/console" || {
        tail -n 20 "$OUT/console"
        return 1
    }
}

# run_quiet COMMAND...: its output is shown only if it fails.
run_quiet() {
    "$@" >"$OUT/out" 2>&1 || {
        echo "$*"
        cat "$OUT/out"
        return 1
    }
}

# fails_with TEXT COMMAND...: it must fail, and say so.
fails_with() {
    libvirt_text=$1
    shift
    if "$@" >"$OUT/out" 2>&1; then
        echo "has not failed: $*"
        return 1
    fi
    grep -qF -- "$libvirt_text" "$OUT/out" || {
        cat "$OUT/out"
        return 1
    }
}

# show_logs DOMAIN: for who looks for the reason.
show_logs() {
    tail -n 5 "/var/log/libvirt/qemu/$1.log"
}

# --- The steps ---------------------------------------------------------------

# step_capabilities TYPE: libvirt knows our binary.
step_capabilities() {
    run_quiet virsh domcapabilities --virttype "$1" --emulatorbin $EMULATOR \
        --machine q35 || return 1
    grep -q "<path>$EMULATOR</path>" "$OUT/out" &&
        grep -q '<machine>pc-q35-' "$OUT/out" &&
        grep -q "<domain>$1</domain>" "$OUT/out"
}

# step_define XML: as it stands, in place of an older one.
step_define() {
    virsh undefine hybrid >/dev/null 2>&1
    of_type <"$1" >"$OUT/domain.xml"
    run_quiet virsh define --validate "$OUT/domain.xml" &&
        virsh dumpxml hybrid | grep -q "<qemu:arg value='hybridmem,"
}

# step_define_plain NAME EMULATOR: a domain that knows nothing of us, as
# virt-install --graphics none makes it.
step_define_plain() {
    sed -e "s,<name>.*<,<name>$1<,;s,<emulator>.*<,<emulator>$2<," \
        -e "/<channel type='spicevmc'/,/<\/channel>/d" \
        -e '/<graphics/,/<\/graphics>/d;/<video>/,/<\/video>/d' \
        -e '/<redirdev/,/<\/redirdev>/d;/<sound/d;/<audio/d' \
        /root/virt-install.xml | of_type >"$OUT/domain.xml"
    run_quiet virsh define --validate "$OUT/domain.xml"
}

# of_type: TYPE in the environment replaces kvm.
of_type() {
    if [ "${TYPE:-kvm}" = kvm ]; then cat; else
        sed "s/type='kvm'/type='$TYPE'/;s/<cpu .*\/>/<cpu mode='maximum'\/>/"
    fi
}

# step_define_spice: virt-install's own choice has SPICE; use-hybridmem makes
# of it what our QEMU can run.
step_define_spice() {
    sed "s,<emulator>.*<,<emulator>$EMULATOR<,;s,<name>.*<,<name>spice<," \
        /root/virt-install.xml | of_type >"$OUT/spice.xml"
    fails_with "USB redirection is not supported by this version of QEMU" \
        virsh define "$OUT/spice.xml" || return 1
    sed -i "s,<emulator>.*<,<emulator>/usr/bin/qemu-system-x86_64<," \
        "$OUT/spice.xml"
    $DOCS/use-hybridmem "$OUT/spice.xml"
    grep -q spice'[^<]' "$OUT/spice.xml" && { cat "$OUT/spice.xml"; return 1; }
    run_quiet virsh define --validate "$OUT/spice.xml"
}

# step_start DOMAIN: until the guest is at work.
step_start() {
    run_quiet virsh start --paused "$1" || { show_logs "$1"; return 1; }
    listen "$1"
    run_quiet virsh resume "$1" && hear "hm: ops" "${2:-60}"
}

# step_event DOMAIN EVENT COMMAND [ARGUMENTS]: qemu-monitor-event catches the
# event that a command of the monitor brings about.
step_event() {
    virsh qemu-monitor-event "$1" --event "$2" --timeout 60 --pretty \
        >"$OUT/event" 2>&1 &
    libvirt_event=$!
    sleep 2
    monitor "$1" "$3" "${4:-}" >/dev/null || return 1
    wait $libvirt_event && grep -q "$2" "$OUT/event" || {
        cat "$OUT/event"
        return 1
    }
}

# step_save DOMAIN: save and restore; the guest goes on where it was.
step_save() {
    run_quiet virsh save "$1" $IMAGES/saved && domain_state "$1" "shut off" &&
        run_quiet virsh restore --paused $IMAGES/saved || return 1
    listen "$1"
    rm $IMAGES/saved
    run_quiet virsh resume "$1" && hear "hm: ops"
}

# step_managedsave DOMAIN
step_managedsave() {
    run_quiet virsh managedsave "$1" && domain_state "$1" "shut off" &&
        virsh dominfo "$1" | grep -q '^Managed save: *yes' &&
        run_quiet virsh start --paused "$1" || return 1
    listen "$1"
    run_quiet virsh resume "$1" && hear "hm: ops"
}

# step_shutdown DOMAIN: by its power button.
step_shutdown() {
    run_quiet virsh shutdown --mode acpi "$1" &&
        hear "hm: power button" &&
        wait_until 60 domain_state "$1" "shut off"
}

# step_confined DOMAIN: QEMU is no root, and in libvirt's sandbox.
step_confined() {
    libvirt_status=/proc/$(cat "/run/libvirt/qemu/$1.pid")/status
    grep '^Uid:\|^Seccomp:' "$libvirt_status" >"$OUT/out"
    grep -q "^Uid:.*$(id -u libvirt-qemu)" "$OUT/out" &&
        grep -q '^Seccomp:[^0-9]*2' "$OUT/out" || {
            cat "$OUT/out"
            return 1
        }
}

# confined PROFILE PIDFILE: AppArmor's profile of a process, a regular expression.
confined() {
    grep -q "^$1\$" "/proc/$(cat "$2")/attr/current" || {
        cat "/proc/$(cat "$2")/attr/current"
        return 1
    }
}

# step_object_del DOMAIN ID...: and then there is no engine.
step_object_del() {
    libvirt_domain=$1
    shift
    for libvirt_id in "$@"; do
        monitor "$libvirt_domain" object-del "{\"id\": \"$libvirt_id\"}" \
            >/dev/null || { cat "$OUT/reply"; return 1; }
    done
    monitor "$libvirt_domain" query-hybridmem >/dev/null &&
        [ "$(grep -c '"id": "hm' "$OUT/reply")" = 0 ]
}

# ATTACH: arguments of object-add, as docs/libvirt/README.md has them.
ATTACH='{"qom-type": "hybridmem", "id": "hm0", "memdev": "pc.ram",
    "fast-nodes": [0], "slow-nodes": [1], "fast-size": 134217728}'

# hot_in_dram DOMAIN [SECONDS]: until DRAM holds no more than it may, and the
# pages that the guest writes in a window are there, all but a twentieth.
hot_in_dram() {
    wait_until "${2:-90}" hot_now "$1" || {
        cat "$OUT/info"
        return 1
    }
}

hot_now() {
    info "$1" >"$OUT/info" 2>&1 && awk '
        BEGIN { kib["KiB"] = 1; kib["MiB"] = 1024; kib["GiB"] = 1048576 }
        function size(n, unit) { return n * kib[substr(unit, 1, 3)] }
        /^  dram:/ { over += size($5, $6) > size($2, $3) }
        /last window:/ { dirty += $3; nvm += $6 }
        END { exit !(!over && dirty > 500 && nvm * 20 < dirty) }' "$OUT/info"
}

info() {
    virsh qemu-monitor-command "$1" --hmp info hybridmem
}

# engine_moves DOMAIN: within a minute it has moved something.  (In the lab a
# move takes so long that budgets allow few.)
engine_moves() {
    wait_until 60 engine_has_moved "$1"
}

engine_has_moved() {
    monitor "$1" query-hybridmem >/dev/null &&
        grep -q '"moves-done": [1-9]' "$OUT/reply"
}

# on_node DOMAIN NODE: pages of the guest's RAM there, by the kernel's word.
on_node() {
    sed -n -e '/prefer (many)/!d' \
        -e "s/.* N$2=\([0-9]*\).*_kB=\([0-9]*\).*/\1 \2/p" \
        "/proc/$(cat "/run/libvirt/qemu/$1.pid")/numa_maps" |
        awk '{ sum += $1 * $2 / 4 } END { print sum + 0 }'
}

# engine_works DOMAIN: within a minute its engine has finished windows.
engine_works() {
    wait_until 60 engine_has_windows "$1"
}

engine_has_windows() {
    monitor "$1" query-hybridmem >/dev/null &&
        grep -q '"state": "running"' "$OUT/reply" &&
        grep -q '"windows": [1-9]' "$OUT/reply"
}
