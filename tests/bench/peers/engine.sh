# Functions of a cell with our engine, which is there but switched off when the
# row is unmanaged.

# Mappings of blocks of a page, one for each.
echo 262144 >/proc/sys/vm/max_map_count

prepare() { :; }

manage() {
    for lab_vm in $vms; do
        qmp "$lab_vm" '{"execute": "hybridmem-set", "arguments":
             {"id": "hm0", "policy": "@policy@", "enabled": @enabled@}}' >/dev/null
    done
}

before() { :; }

after() {
    for lab_vm in $vms; do
        result_json "engine${lab_vm#vm}" \
            "$(qmp "$lab_vm" query-hybridmem return.0)"
    done
}
