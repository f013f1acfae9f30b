# SPDX-License-Identifier: GPL-2.0-or-later
"""The one exception that a user is meant to read."""


class Refusal(Exception):
    """Something is wrong that the user can understand and act on.

    The text is one sentence; the program prints it and exits with 1.
    """
