"""The wheel's C interface: the only module that knows how this version of it is laid out.

The wheel's own component calls are not used to pass values, because they reflect on every type at
every call, convert a `list<u8>` byte by byte, tell results from options by the Python type of the
payload, and share one scratch set between threads. `abi` does that work instead, on what is bound
here. All of it is private to the wheel, hence the exact version.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from wasmtime import WasmtimeError, _bindings, _ffi

from registry.deploy.runtimes.wasmtime.engine import WASMTIME

if version("wasmtime") != WASMTIME:
    raise ImportError(
        f"the embedded runtime is written for wasmtime {WASMTIME},"
        f" but {version('wasmtime')} is installed"
    )

bindings: Any = _bindings
ffi: Any = _ffi
Value: Any = bindings.wasmtime_component_val_t
VALUE_SIZE = ctypes.sizeof(Value)
PAYLOAD = Value.of.offset
if (VALUE_SIZE, PAYLOAD, Value.kind.offset) != (32, 8, 0):
    raise ImportError("wasmtime lays out component values in an unexpected way")

# The same library once more, called without giving up the GIL: for calls of a microsecond that
# run no guest code and call nothing back, handing the GIL over costs more than the call itself.
_quick = ctypes.PyDLL(str(_ffi.filename))


def _bind(name: str) -> Callable[..., Any]:
    prototype = getattr(bindings, f"_wasmtime_{name}", None) or getattr(bindings, f"_{name}")
    function = getattr(_quick, prototype.__name__)
    function.argtypes, function.restype = prototype.argtypes, prototype.restype
    bound: Callable[..., Any] = function
    return bound


bytes_new = _bind("wasm_byte_vec_new")
_with_bytes: Any = bytes_new
_with_bytes.argtypes = [*_with_bytes.argtypes[:2], ctypes.c_char_p]  # bytes as they are
list_new = _bind("component_vallist_new_uninit")
tuple_new = _bind("component_valtuple_new_uninit")
record_new = _bind("component_valrecord_new_uninit")
flags_new = _bind("component_valflags_new_uninit")
value_new = _bind("component_val_new")
value_delete = _bind("component_val_delete")
host_new = _bind("component_resource_host_new")
host_rep = _bind("component_resource_host_rep")
host_delete = _bind("component_resource_host_delete")
host_to_any = _bind("component_resource_host_to_any")
any_to_host = _bind("component_resource_any_to_host")
set_epoch_deadline = _bind("context_set_epoch_deadline")

HostPointer: Any = ctypes.POINTER(bindings.wasmtime_component_resource_host_t)
AnyPointer: Any = ctypes.POINTER(bindings.wasmtime_component_resource_any_t)

HostCallback: Any = bindings.wasmtime_component_func_callback_t
DropCallback: Any = bindings.wasmtime_component_resource_destructor_t
EpochCallback: Any = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint64),
    ctypes.POINTER(ctypes.c_uint8),
)
_Finalizer: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_nothing = ctypes.cast(0, _Finalizer)


def failure(message: str) -> int:
    """A new error, given up to the library: what a callback returns to trap the guest."""
    error = WasmtimeError(message)
    pointer: Any = error._consume()  # type: ignore[no-untyped-call, unused-ignore] # untyped wheel
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def check(error: Any) -> None:
    """Raise what the library returned, if it returned an error."""
    if error:
        raise WasmtimeError._from_ptr(error)


def define(linker: Any, name: str, callback: Any) -> None:
    """Define a function of a linker instance. The caller keeps `callback` alive."""
    text = name.encode()
    check(
        bindings.wasmtime_component_linker_instance_add_func(
            linker.ptr(), text, len(text), callback, None, _nothing
        )
    )


def define_resource(linker: Any, name: str, kind: Any, drop: Any) -> None:
    """Define a resource type of a linker instance. The caller keeps `drop` alive."""
    text = name.encode()
    check(
        bindings.wasmtime_component_linker_instance_add_resource(
            linker.ptr(), text, len(text), kind.ptr(), drop, None, _nothing
        )
    )


def on_epoch(store: Any, callback: Any) -> None:
    """Ask `callback` at each epoch deadline. The caller keeps it alive."""
    # The prototype wants its own CFUNCTYPE, which differs from ours only in pointer types.
    kind = bindings._wasmtime_store_epoch_deadline_callback.argtypes[1]
    bindings.wasmtime_store_epoch_deadline_callback(
        store.ptr(), ctypes.cast(callback, kind), None, _nothing
    )


def call(function: Any, context: Any, arguments: Any) -> None:
    """Call a component's function that has no result. Raises WasmtimeError on a trap."""
    check(
        bindings.wasmtime_component_func_call(
            ctypes.byref(function._func), context, arguments, len(arguments), None, 0
        )
    )
