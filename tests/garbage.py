"""What is left to Python's collector, because it refers to itself."""

import gc
from collections import Counter
from collections.abc import Callable

import gevent


def leftovers(do: Callable[[], object]) -> Counter[str]:
    """Do *do* once for what is only made once, then again; return the types it leaves."""
    do()
    gevent.idle()  # greenlets that are about to end
    gc.disable()
    gc.freeze()  # what others have left, or will leave
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        do()
        gevent.idle()
        gc.collect()
        return Counter(f"{type(one).__module__}.{type(one).__name__}" for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


def of_ours(found: Counter[str]) -> list[str]:
    """Those that are defined in llmsnap, or are gevent's sockets and watchers."""
    return [name for name in found if name.startswith(("llmsnap.", "gevent."))]
