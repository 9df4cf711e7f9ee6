"""Decoded pictures, kept in memory while there is room."""

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

CACHE_BYTES = 1 << 30
WINDOW = 24  # images, at most
CROPS_PER_IMAGE = 8, 32  # at least and at most: the larger it is, the longer it takes to decode
PIXELS_PER_CROP = 1 << 17


def window(total: int, largest: int, pixels: int) -> tuple[int, int]:
    """Return from how many images at a time crops are taken, and how many crops each serves.

    (0, 1), all of them and by turns, where all can be kept. Otherwise the window of images moves
    on, so that an image is decoded once for several crops.

    Parameters
    ----------
    total, largest : int
        Bytes of all images, and of the largest one.
    pixels : int
        Of an image.
    """
    if total <= CACHE_BYTES:
        return 0, 1
    least, most = CROPS_PER_IMAGE
    # While an image is in use the window moves by its own length, at most.
    count = min(WINDOW, max(1, CACHE_BYTES // (2 * largest)))
    return count, min(most, max(least, pixels // PIXELS_PER_CROP))


class Cache:
    """The arrays `make(k)` used last, up to `CACHE_BYTES` of them, for several threads.

    Another process gets it empty.
    """

    def __init__(self, make: Callable[[int], np.ndarray]):
        self._make = make
        self._arrays: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self):
        return Cache, (self._make,)

    def __getitem__(self, k: int) -> np.ndarray:
        with self._lock:
            if k in self._arrays:
                self._arrays.move_to_end(k)
                return self._arrays[k]
        array = self._make(k)  # outside the lock: two threads may make two at a time
        with self._lock:
            if k not in self._arrays:
                self._arrays[k] = array
                self._bytes += array.nbytes
            while self._bytes > CACHE_BYTES and len(self._arrays) > 1:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return array
