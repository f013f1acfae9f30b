/*
 * A load on redis as YCSB's workload A makes it with writeallfields=true: half
 * reads, half updates in place, of whole records, chosen by a Zipfian
 * distribution and scattered over all keys: see redis-client.h.
 *
 *   redis-load fill SOCKET RECORDS
 *   redis-load run SOCKET RECORDS OPS SEED
 *   redis-load verify SOCKET RECORDS
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "redis-client.h"

static void run(Client *c, uint32_t records, uint32_t ops, uint64_t seed)
{
    uint32_t *sum = zipf_table(records), *key = scattered(records);

    for (uint32_t op = 1; op <= ops; op++) {
        uint64_t draw = guest_mix(seed << 32 | op);
        uint64_t kind = guest_mix(draw);
        uint32_t record = key[zipf_rank(sum, records, draw)];

        if (kind & 1) {
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
    const char *verb = argc > 3 ? argv[1] : "";
    uint32_t records = argc > 3 ? atoi(argv[3]) : 0;

    if (!records) {
        errx(1, "usage: see redis-load.c");
    }
    open_client(&client, argv[2]);
    if (!strcmp(verb, "run") && argc == 6) {
        run(&client, records, strtoul(argv[4], NULL, 0), atoi(argv[5]));
        return 0;
    }
    for (uint32_t key = 0; key < records; key++) {
        if (!strcmp(verb, "fill")) {
            insert_record(&client, key);
        } else {
            read_record(&client, key);
        }
    }
    flush(&client);
    printf("checksum=%016" PRIx64 "\n", client.sum);
    return 0;
}
