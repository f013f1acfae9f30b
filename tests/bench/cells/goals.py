# SPDX-License-Identifier: GPL-2.0-or-later
"""Goals of a bench."""

from typing import NamedTuple, Optional


class Goal(NamedTuple):
    """met: None if cells are missing."""
    text: str
    met: Optional[bool]
    value: str

    def __str__(self):
        word = {True: "met", False: "missed", None: "open"}[self.met]
        return f"goal: {self.text}: {word} ({self.value})"
