"""How many images at once are fastest, found out by trying."""

from __future__ import annotations

from collections.abc import Callable

_GAIN = 1.05  # of images a second; less is the noise of one measurement
_OUT_OF_MEMORY = ("out of memory", "resource_exhausted", "resourceexhausted", "oom when")


def fastest_batch(seconds: Callable[[int], float], smallest: int, largest: int) -> int:
    """Double the batch for as long as that gives more images a second.

    Parameters
    ----------
    seconds
        What one batch of so many images takes. A batch that the device's memory does not hold
        raises what its backend raises then, and ends the search.
    smallest, largest
        First and last size tried; the first is known to fit.

    Raises
    ------
    Exception
        Whatever `seconds` raises, unless it speaks of memory.
    """
    best, fastest = smallest, smallest / seconds(smallest)
    while 2 * best <= largest:
        try:
            speed = 2 * best / seconds(2 * best)
        except Exception as error:  # each backend has an error of its own
            if not speaks_of_memory(error):
                raise
            break
        if speed < _GAIN * fastest:
            break
        best, fastest = 2 * best, speed
    return best


def speaks_of_memory(error: BaseException) -> bool:
    """Whether a backend's error says that the device's memory does not suffice."""
    told = f"{type(error).__name__} {error}".lower()
    return isinstance(error, MemoryError) or any(words in told for words in _OUT_OF_MEMORY)
