# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the files that a run left."""

import hashlib
import json


class ResultError(Exception):
    """A result that cannot be used; the text names the file."""


def read_json(path):
    """The file's content."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ResultError(f"{path}: not JSON ({error})") from error


def by_name(things, path, what):
    """A list of things, each with its name (or number) under `what`, as a
    map by that."""
    if not isinstance(things, list):
        raise ResultError(f"{path}: no list of {what}s")
    return {str(t[what]): t for t in things}


def digest(path):
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
