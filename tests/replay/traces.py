# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes traces, from what docs/replay.md says of the format; knows nothing of
trace-file.c."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence

DRAM, NVM = 0, 1
INFO, FRAMES, WINDOW, MOVES = 1, 2, 3, 4
ACCESSES, SAMPLED, COUNTS = 1, 2, 4


def varint(n: int) -> bytes:
    """Seven bits a byte, low ones first."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def signed(n: int) -> bytes:
    """0, -1, 1, -2, ... as 0, 1, 2, 3, ..."""
    return varint(2 * n if n >= 0 else -2 * n - 1)


def varints(*numbers: int) -> bytes:
    """One after the other."""
    return b"".join(map(varint, numbers))


def record(kind: int, payload: bytes) -> bytes:
    """Length, type, payload, checksum."""
    body = struct.pack("<IB", len(payload), kind) + payload
    return body + struct.pack("<I", zlib.crc32(body))


def start(pages: int, per_block: int = 1, half_life: int = 500,
          policy: str = "none", page_size: int = 4096,
          version: int = 1) -> bytes:
    """What a file begins with."""
    name = policy.encode()
    return b"hmtrace\n" + struct.pack("<I", version) + record(
        INFO, varints(page_size, pages, per_block, half_life, len(name))
        + name)


def frames(extents: Sequence[tuple[int, int]],
           away: dict[int, int] | None = None) -> bytes:
    """Extents of (blocks, tier), and where blocks lie that are not at home."""
    out = varint(len(extents))
    for blocks, tier in extents:
        out += varints(blocks, tier | 2)
    out += varint(len(away or {}))
    after = 0
    for block, frame in sorted((away or {}).items()):
        out += varint(block - after) + signed(frame - block)
        after = block + 1
    return record(FRAMES, out)


def runs(pages: Iterable[int]) -> list[tuple[int, int]]:
    """(first, end) of each."""
    found: list[tuple[int, int]] = []
    for page in sorted(set(pages)):
        if found and found[-1][1] == page:
            found[-1] = (found[-1][0], page + 1)
        else:
            found.append((page, page + 1))
    return found


def page_set(pages: Iterable[int]) -> bytes:
    """As runs."""
    found = runs(pages)
    out, after = varint(len(found)), 0
    for first, end in found:
        long = end - first > 1
        out += varint((first - after) * 2 + long)
        if long:
            out += varint(end - first - 2)
        after = end + 1
    return out


def window(pages: Iterable[int], ms: int = 100, in_nvm: int = 0,
           accesses: bool = False,
           watched: dict[int, int] | None = None,
           counts: dict[int, tuple[int, int]] | None = None) -> bytes:
    """@watched: block: weight; @counts: page: (filled, written)."""
    out = varints((ACCESSES if accesses else 0) |
                  (SAMPLED if watched is not None else 0) |
                  (COUNTS if counts is not None else 0), ms)
    if watched is not None:
        out += varint(len(watched))
        after = 0
        for block, weight in sorted(watched.items()):
            out += varints(block - after, weight)
            after = block + 1
    out += page_set(pages) + varint(in_nvm)
    if counts is not None:
        out += varint(len(counts))
        after = 0
        for page, (filled, written) in sorted(counts.items()):
            out += varints(page - after, filled, written)
            after = page + 1
    return record(WINDOW, out)


def moves(done: Sequence[tuple[int, int, int]], per_block: int = 1) -> bytes:
    """Of whole blocks: (block, from, to)."""
    out, last = varint(len(done)), 0
    for block, source, target in done:
        out += signed(block - last)
        out += varints(source | target << 1 | 4, per_block)
        last = block
    return record(MOVES, out)
