"""Decoded pictures, kept in memory while there is room."""

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

CACHE_BYTES = 1 << 30


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
            while self._bytes > CACHE_BYTES:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return array
