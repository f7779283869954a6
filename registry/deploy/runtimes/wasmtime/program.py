"""A component made ready once per process: loaded, its imports bound, its handler found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wasmtime import Engine, Store, WasmtimeError
from wasmtime.component import (
    Component,
    ComponentInstanceType,
    FuncType,
    Linker,
    ResourceType,
)

from registry.deploy.runtimes import Limits
from registry.deploy.runtimes.wasmtime import abi, native
from registry.deploy.runtimes.wasmtime.anatomy import HANDLER
from registry.deploy.runtimes.wasmtime.call import Call, Stopped, current, entered
from registry.deploy.runtimes.wasmtime.host import Function

# Per instance. A linear memory has its own limit, so a component of many memories could multiply
# it; SDKs make one memory, composed components one per part.
MEMORIES, TABLES, INSTANCES, TABLE_ELEMENTS = 8, 32, 128, 1 << 20


class Trap(Exception):
    """The guest did not finish; the text is one line for the log."""


class NotProvided(Stopped):
    pass


class Program:
    def __init__(
        self,
        engine: Engine,
        component: Component,
        functions: Mapping[str, Function],
        limits: Limits,
    ) -> None:
        self._engine, self._component, self._limits = engine, component, limits
        self._linker = Linker(engine)
        self._resources = abi.Resources()
        self._kept: list[Any] = []  # ctypes callbacks that the library calls by address
        self.missing: list[str] = []
        self._link(functions)
        self._find_handler()

    # Once per process

    @classmethod
    def load(
        cls, engine: Engine, path: str, functions: Mapping[str, Function], limits: Limits
    ) -> Program:
        """Map compiled code, which is trusted. Raises Trap for what another version wrote."""
        try:
            component = Component.deserialize_file(engine, path)
        except WasmtimeError as error:
            raise Trap(f"{path} does not load: {error}") from None
        return cls(engine, component, functions, limits)

    def _link(self, functions: Mapping[str, Function]) -> None:
        drop = native.DropCallback(_drop)
        self._kept.append(drop)
        imports = self._component.type.imports(self._engine)
        with self._linker.root() as root:
            for name, item in imports.items():
                kind = item.ty
                if not isinstance(kind, ComponentInstanceType):
                    continue
                with root.add_instance(name) as instance:
                    for member, export in kind.exports(self._engine).items():
                        match export.ty:
                            case ResourceType() as resource:
                                number = self._resources.number(resource)
                                host = ResourceType.host(number)
                                native.define_resource(instance, member, host, drop)
                            case FuncType() as function:
                                self._bind(instance, name, member, function, functions)
                            case _:
                                pass

    def _bind(
        self,
        instance: Any,
        interface: str,
        member: str,
        kind: FuncType,
        functions: Mapping[str, Function],
    ) -> None:
        known = functions.get(f"{interface.partition('@')[0]}#{member}")
        if known is None:
            self.missing.append(f"{interface}#{member}")
            callback = native.HostCallback(_missing(f"{interface}#{member}"))
        else:
            takes, gives = abi.parameters(kind, self._resources)
            callback = native.HostCallback(_bound(known, takes, gives))
        self._kept.append(callback)
        native.define(instance, member, callback)

    def _find_handler(self) -> None:
        exports = self._component.type.exports(self._engine)
        name = next(name for name in exports if name.startswith(HANDLER))
        handler: Any = exports[name].ty
        kind: Any = handler.exports(self._engine)["handle"].ty
        self._takes, _ = abi.parameters(kind, self._resources)
        outer = self._component.get_export_index(name)
        index = self._component.get_export_index("handle", outer)
        if index is None:
            raise Trap(f"the component's {name} has no function `handle`")
        self._handle = index

    # Once per request

    def trial(self, call: Call) -> None:
        """Instantiate and throw away. Raises Trap."""
        self._run(call, None)

    def handle(self, call: Call, request: object, outparam: object) -> None:
        """Run the guest's handler in a fresh instance. The caller has the turn. Raises Trap."""
        self._run(call, (request, outparam))

    def _run(self, call: Call, arguments: tuple[object, object] | None) -> None:
        with Store(self._engine) as store, entered(call):
            store.set_limits(
                memory_size=self._limits.memory,
                memories=MEMORIES,
                tables=TABLES,
                table_elements=TABLE_ELEMENTS,
                instances=INSTANCES,
            )
            call.context = context = store._context()
            native.on_epoch(store, _epoch)
            native.set_epoch_deadline(context, 1)
            try:
                instance = self._linker.instantiate(store, self._component)
                if arguments is None:
                    return
                function = instance.get_func(store, self._handle)
                raw = (native.Value * 2)()
                for i in (0, 1):
                    self._takes[i].lower(call, arguments[i], raw[i])
                native.call(function, context, raw)
            except WasmtimeError as error:
                fault, call.fault = call.fault, None
                if isinstance(fault, Stopped):
                    raise fault from None
                if fault is not None:
                    raise Trap(f"the host failed: {type(fault).__name__}: {fault}") from fault
                raise Trap(_reason(error)) from None
            finally:
                call.context = None


def _reason(error: WasmtimeError) -> str:
    """The last line of an error: before it come the backtrace and the chain of contexts."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if "wasm trap:" in line]
    text = (causes or lines or ["unknown error"])[-1]
    return text.split("wasm trap:", 1)[-1].removeprefix("0: ").strip()


def _bound(function: Function, takes: list[abi.Converter], gives: abi.Converter | None) -> Any:
    lifts = [converter.lift for converter in takes]
    lower = gives.lower if gives is not None else None

    def callback(
        _: Any, context: Any, __: Any, args: Any, ___: int, results: Any, ____: int
    ) -> int:
        call = current()
        try:
            given = [lift(call, args[i]) for i, lift in enumerate(lifts)]
            try:
                value = function(call, *given)
            except abi.Err as err:
                value = err
            if lower is not None:
                lower(call, value, results[0])
        except BaseException as fault:
            call.fault = fault
            return native.failure(f"host: {fault}")
        return 0

    return callback


def _missing(name: str) -> Any:
    def callback(*_: Any) -> int:
        fault = NotProvided(f"it called {name}, which the embedded runtime does not provide")
        current().fault = fault
        return native.failure(str(fault))

    return callback


def _drop(_: Any, __: Any, rep: int) -> int:
    try:
        current().drop(rep)
    except BaseException as fault:
        return native.failure(f"host: {fault}")
    return 0


def _tick(_: Any, __: Any, delta: Any, kind: Any) -> int:
    call = current()
    try:
        call.tick()
    except BaseException as fault:
        call.fault = fault
        return native.failure(f"host: {fault}")
    delta[0], kind[0] = 1, 0  # one more epoch; 0: go on
    return 0


_epoch = native.EpochCallback(_tick)

__all__ = ["Program", "Trap"]
