/*
 * YCSB's mixes of reads and updates, of whole records, on redis:
 *
 *   ycsb-load SOCKET RECORDS OPS READS SEED
 *
 * READS of 100 operations are reads: 50 is workload A, 95 is B, 100 is C.
 * redis-load fills and verifies.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "redis-client.h"

static void run(Client *c, uint32_t records, uint32_t ops, uint32_t reads,
                uint64_t seed)
{
    uint32_t *sum = zipf_table(records), *key = scattered(records);

    for (uint32_t op = 1; op <= ops; op++) {
        uint64_t draw = guest_mix(seed << 32 | op);
        uint64_t kind = guest_mix(draw) >> 32;
        uint32_t record = key[zipf_rank(sum, records, draw)];

        if (kind * 100 >> 32 < reads) {
            read_record(c, record);
        } else {
            update_record(c, record, op);
        }
    }
    flush(c);
    printf("ops=%u\n", ops);
}

int main(int argc, char **argv)
{
    static Client client;

    if (argc != 6 || !atoi(argv[2])) {
        errx(1, "usage: see ycsb-load.c");
    }
    open_client(&client, argv[1]);
    run(&client, atoi(argv[2]), strtoul(argv[3], NULL, 0), atoi(argv[4]),
        atoi(argv[5]));
    return 0;
}
