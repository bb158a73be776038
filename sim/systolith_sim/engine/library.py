"""The C library that a build is: its calls, typed."""

import ctypes
from pathlib import Path

from systolith_sim.engine.errors import EngineError


class MemoryConfig(ctypes.Structure):
    """``MemoryConfig`` of native/memory.hpp."""

    _fields_ = (
        ("data", ctypes.c_void_p), ("bytes", ctypes.c_uint64), ("latency", ctypes.c_uint64),
        ("burst_overhead", ctypes.c_uint64), ("write_latency", ctypes.c_uint64), ("seed", ctypes.c_uint64),
        ("probability", ctypes.c_uint32), ("longest", ctypes.c_uint32),
    )


LIMIT, INTERRUPT, VIOLATION, MUTE, REFUSED = range(5)
"""``Reason`` of native/harness.cpp."""


def load(path: Path) -> ctypes.CDLL:
    """Load a build.

    Raises
    ------
    EngineError
        If this machine cannot run it.
    """
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise EngineError(f"{path} must be a library for this machine: {error}") from None
    instance, uint32, uint64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    for name, result, arguments in (
        ("open", instance, (ctypes.POINTER(MemoryConfig), ctypes.c_char_p)),
        ("close", None, (instance,)),
        ("cycle", uint64, (instance,)),
        ("violation", ctypes.c_char_p, (instance,)),
        ("advance", ctypes.c_int, (instance, uint64)),
        ("write", ctypes.c_int, (instance, uint32, uint32)),
        ("read", ctypes.c_int, (instance, uint32, ctypes.POINTER(uint32))),
    ):
        function = getattr(library, f"systolith_{name}")
        function.restype, function.argtypes = result, arguments
    return library
