"""What a command by a person can be told instead of "done". The message is shown to that person as it is.

RefusedError
├── NotFoundError    there is no such run, order, merchant or queue
├── InvalidError     the request itself cannot be meant like that
└── ConflictError    it can be meant, but not in the state things are in
"""

from __future__ import annotations


class RefusedError(Exception):
    """Nothing was changed; the message says why and, where there is one, names the way out."""


class NotFoundError(RefusedError):
    """There is nothing by that name."""


class InvalidError(RefusedError):
    """The request contradicts itself, or lacks something."""


class ConflictError(RefusedError):
    """The state it is in does not allow this."""
