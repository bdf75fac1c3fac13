"""How many descriptors (open files, connections) this process may have.

The usual soft limit, 1024, is a custom for programs that use ``select``; the
hard limit is what the machine allows. A daemon raises its own after its spawner
is forked, so that tasks keep the limit that it was started with.
"""

import resource
from contextlib import suppress

# More than all bounds of a daemon together come to.
WANTED = 65536


def soft_limit() -> int:
    """The soft limit as it is, to be given back by ``restore_limit``."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def restore_limit(soft: int) -> None:
    """Gives back a soft limit, for a program that is to begin as this one did."""
    with suppress(OSError, ValueError):
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )


def limit() -> int:
    """How many descriptors this process may have open now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED if soft == resource.RLIM_INFINITY else min(soft, WANTED)


def raise_limit() -> int:
    """Raises the soft limit towards the hard one, at most to WANTED; the limit then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if wanted > limit():
        # Where even that is not allowed, the bounds follow what there is.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()
