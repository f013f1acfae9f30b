# Functions of a cell with our engine, which is there but switched off when the
# row is unmanaged.

# Mappings of blocks of a page, one for each.
echo 262144 >/proc/sys/vm/max_map_count

prepare() { :; }

manage() {
    qmp vm '{"execute": "hybridmem-set", "arguments":
             {"id": "hm0", "policy": "@policy@", "enabled": @enabled@}}' >/dev/null
}

before() { :; }

after() {
    result_json engine "$(qmp vm query-hybridmem return.0)"
}
