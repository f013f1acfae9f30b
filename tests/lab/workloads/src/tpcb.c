/*
 * Transactions as TPC-B has them, in SQL:
 *
 *   tpcb BRANCHES BEFORE OPS SEED
 *
 * writes OPS transactions, numbered from BEFORE + 1: an account's, a teller's
 * and a branch's balance change by the same amount, and history has a row of
 * it.  A branch has 10 tellers and 100000 accounts; of 100 transactions 85 are
 * of an account of the teller's own branch, others of one of any other branch.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "guest.h"
#include <err.h>

#define TELLERS 10
#define ACCOUNTS 100000
#define OWN 85                  /* of 100 */
#define LARGEST 999999          /* amount, either way */

typedef struct Random {
    uint64_t state;
} Random;

static uint32_t below(Random *r, uint32_t limit)
{
    return (guest_mix(r->state++) >> 32) * limit >> 32;
}

static uint32_t other_branch(Random *r, uint32_t branches, uint32_t branch)
{
    return branches < 2 ? branch
        : (branch + 1 + below(r, branches - 1)) % branches;
}

static void transaction(Random *r, uint32_t branches, uint64_t number)
{
    uint32_t teller = below(r, branches * TELLERS);
    uint32_t branch = teller / TELLERS;
    uint32_t home = below(r, 100) < OWN ? branch
        : other_branch(r, branches, branch);
    uint32_t account = home * ACCOUNTS + below(r, ACCOUNTS) + 1;
    int amount = (int)below(r, 2 * LARGEST + 1) - LARGEST;

    printf("BEGIN;\n"
           "UPDATE accounts SET balance = balance + %d WHERE id = %u;\n"
           "SELECT balance FROM accounts WHERE id = %u;\n"
           "UPDATE tellers SET balance = balance + %d WHERE id = %u;\n"
           "UPDATE branches SET balance = balance + %d WHERE id = %u;\n"
           "INSERT INTO history VALUES (%u, %u, %u, %d, %" PRIu64
           ", '%22s');\n"
           "COMMIT;\n", amount, account, account, amount, teller + 1, amount,
           branch + 1, teller + 1, branch + 1, account, amount, number, "");
}

int main(int argc, char **argv)
{
    uint64_t number[4] = { 0 };
    Random r;

    for (int i = 1; i < argc && i < 5; i++) {
        number[i - 1] = strtoull(argv[i], NULL, 0);
    }
    if (argc != 5 || !number[0]) {
        errx(1, "usage: see tpcb.c");
    }
    r.state = number[3] << 32;
    for (uint64_t op = 1; op <= number[2]; op++) {
        transaction(&r, number[0], number[1] + op);
    }
    return 0;
}
