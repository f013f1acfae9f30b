/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers of which the least are wanted.
 */
#include "qemu/osdep.h"
#include "ranked.h"

void hm_ranked_add(HmRanked *l, uint64_t item)
{
    if (l->n == l->size) {
        l->size = MAX(2 * l->size, 1024);
        l->item = g_renew(uint64_t, l->item, l->size);
    }
    l->item[l->n++] = item;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Hoare's selection: linear time on average. */
void hm_ranked_select(uint64_t *v, size_t n, size_t want)
{
    while (want > 0 && want < n) {
        uint64_t pivot = v[n / 2];
        size_t i = 0, j = n - 1;

        for (;;) {
            uint64_t moved;

            while (v[i] < pivot) {
                i++;
            }
            while (v[j] > pivot) {
                j--;
            }
            if (i >= j) {
                break;
            }
            moved = v[i];
            v[i++] = v[j];
            v[j--] = moved;
        }
        /* Now no number in v[0..i) is above one in v[i..n). */
        if (want <= i) {
            n = i;
        } else {
            v += i;
            n -= i;
            want -= i;
        }
    }
}

void hm_ranked_order(HmRanked *l, size_t from, size_t want)
{
    size_t n = l->n - from;

    if (n == 0) {
        return;
    }
    hm_ranked_select(l->item + from, n, want);
    qsort(l->item + from, MIN(want, n), sizeof(uint64_t), by_value);
}
