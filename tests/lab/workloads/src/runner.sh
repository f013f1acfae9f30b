# What every guest of the lab does; part of its init, in busybox's shell.
# hm.go=1 on the kernel's command line: do not wait for a line; hm.hold=1: wait
# for another one after the run.

param() {
    for word in $(cat /proc/cmdline); do
        case $word in hm.$1=*) echo "${word#*=}"; return;; esac
    done
    echo "$2"
}

phase() {
    sh -e /workload/$1 </dev/null >/tmp/$1.out 2>/tmp/$1.err && return
    tail -n 5 /tmp/$1.err
    echo "hm: failed $1"
    poweroff -f
}

busybox --install -s /bin 2>/dev/null
mount -o remount,size=95% /tmp
. /workload/params
phase setup
echo "hm: ready"
[ "$(param go 0)" = 1 ] || read line
warm_phase=$(param warm_phase 1)
run_phase=$(param run_phase 2)
mark $warm_phase
phase warm
[ $warm_phase = $run_phase ] || mark $run_phase
phase run
mark 0
[ "$(param hold 0)" = 0 ] || { echo "hm: ran"; read line; }
phase verify
echo "hm: done $(tail -n 1 /tmp/run.out) $(tail -n 1 /tmp/verify.out)"
