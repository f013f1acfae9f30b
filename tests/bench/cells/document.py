# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables in Markdown, and the place in a document where they go."""

from .files import ResultError

NONE = "–"


def percent(value, digits=1):
    """Of a share that may be unknown."""
    return NONE if value is None else f"{100 * value:.{digits}f} %"


def ratio(value):
    """Two digits after the point."""
    return NONE if value is None else f"{value:.2f}"


def markdown(heads, lines, left=3):
    """A table; all but the first columns are right-aligned."""
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "".join("---|" if n < left else "---:|"
                        for n in range(len(heads)))
    for line in lines:
        yield "| " + " | ".join(line) + " |"


class Block:
    """What stands between two marks of a document."""

    def __init__(self, name):
        self.begin = f"<!-- {name}:begin -->"
        self.end = f"<!-- {name}:end -->"

    def write(self, document, text):
        """Replaces it."""
        old = document.read_text()
        if old.count(self.begin) != 1 or old.count(self.end) != 1 or \
                old.index(self.begin) > old.index(self.end):
            raise ResultError(f"{document}: put the lines '{self.begin}' and "
                              f"'{self.end}' where the tables are to be")
        head, rest = old.split(self.begin)
        tail = rest.split(self.end)[1]
        document.write_text(f"{head}{self.begin}\n{text}{self.end}{tail}")
