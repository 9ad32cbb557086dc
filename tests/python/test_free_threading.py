"""The module declares itself ready for free-threaded CPython."""

from __future__ import annotations

import ctypes
import re
import sys
import sysconfig
from pathlib import Path

import loamy._loamy

FIRST_WITH_THE_SLOT = (3, 13)
PY_MOD_GIL = 4
PY_MOD_GIL_NOT_USED = 1


class Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("value", ctypes.c_void_p)]


def slots() -> dict[int, int | None]:
    """Read the slots of the built module's definition: what the interpreter reads when it imports it."""
    library = ctypes.PyDLL(loamy._loamy.__file__)
    start = library.PyInit__loamy
    start.restype = ctypes.c_void_p
    start.argtypes = []
    definition = start()
    # PyModuleDef: its base (ob_refcnt, ob_type, m_init, m_index, m_copy), then name, doc, size, methods, slots.
    head = sysconfig.get_config_var("Py_GIL_DISABLED")
    base = 32 if head else 16
    place = definition + base + 3 * 8 + 4 * 8
    array = ctypes.cast(ctypes.c_void_p.from_address(place).value, ctypes.POINTER(Slot))  # type: ignore[arg-type]
    found: dict[int, int | None] = {}
    for number in range(16):
        if array[number].slot == 0:
            return found
        found[array[number].slot] = array[number].value
    raise AssertionError("these are no slots")


def test_the_module_says_that_it_does_not_need_the_interpreters_lock() -> None:
    if sys.version_info >= FIRST_WITH_THE_SLOT:
        assert slots()[PY_MOD_GIL] == PY_MOD_GIL_NOT_USED
    else:
        # Interpreters before 3.13 do not know the slot and refuse a module that has it; the source declares it for the others.
        assert PY_MOD_GIL not in slots()
    source = Path(__file__).parents[2] / "crates" / "loamy-python" / "src" / "lib.rs"
    assert re.search(r"#\[pymodule\(gil_used = false\)\]\s+mod _loamy\b", source.read_text())


def test_the_lock_is_not_taken_again_by_importing_it() -> None:
    enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert enabled is not bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
