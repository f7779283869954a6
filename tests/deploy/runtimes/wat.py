"""Small components in text, for what a compiler would not let one write.

All are the demonstration component with another handler: `hello.wat` declares the imports.
"""

from __future__ import annotations

from importlib.resources import files

import wasmtime

_HEAD = '(func (export "handle") (param $request i32) (param $outparam i32)'
_TAIL = "\n  )\n  (core instance $main"

# Ends in a started response: $stream is the body's output-stream.
_BEGIN = """
  (local $response i32) (local $body i32) (local $stream i32)
  (call $from-list (i32.const 48) (i32.const 1) (i32.const 64))
  (local.set $response (call $new-response (call $taken)))
  (call $body (local.get $response) (i32.const 64))
  (local.set $body (call $taken))
  (call $set (local.get $outparam) (i32.const 0) (local.get $response)
    (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
  (call $stream (local.get $body) (i32.const 64))
  (local.set $stream (call $taken))
"""


def component(handler: str, *, more: str = "", greeting: str = "x" * 1024) -> bytes:
    """A component whose handler is these instructions; `more` are further module fields."""
    text = files("registry.demo").joinpath("hello.wat").read_text("utf-8")
    start = text.index(_HEAD)
    end = text.index(_TAIL)
    text = f"{text[:start]}{more}\n{_HEAD}{handler}){text[end:]}"
    text = text.replace("@GREETING@", greeting).replace("@LENGTH@", "1")
    return bytes(wasmtime.wat2wasm(text))


def traps_at_start() -> bytes:
    return component("", more="(func $boom unreachable) (start $boom)")


def loops_at_start() -> bytes:
    return component("", more="(func $boom (loop $again (br $again))) (start $boom)")


def traps() -> bytes:
    return component("unreachable")


def loops() -> bytes:
    return component("(loop $again (br $again))")


def grows() -> bytes:
    """Takes memory until it gets no more, then traps."""
    return component(
        """(loop $again
             (br_if $again (i32.ne (memory.grow (i32.const 256)) (i32.const -1))))
           unreachable"""
    )


def hoards() -> bytes:
    """Takes 48 MiB in each of seven memories and touches all of it, then waits on."""
    text = files("registry.demo").joinpath("hello.wat").read_text("utf-8")
    hoard = """(core module $hoard (memory 1)
      (func (export "take")
        (drop (memory.grow (i32.const 767)))
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 50331648))))"""
    names = [f"h{i}" for i in range(7)]
    text = text.replace(
        "  (core module $main",
        hoard
        + "".join(f"(core instance ${name} (instantiate $hoard))" for name in names)
        + "".join(f'(alias core export ${name} "take" (core func ${name}))' for name in names)
        + "  (core module $main",
    ).replace(
        '(import "host" "memory" (memory 1))',
        '(import "host" "memory" (memory 1))'
        + "".join(f'(import "host" "{name}" (func ${name}))' for name in names),
    )
    text = text.replace(
        '(export "memory" (memory $mem))',
        '(export "memory" (memory $mem))'
        + "".join(f'(export "{name}" (func ${name}))' for name in names),
    )
    start, end = text.index(_HEAD), text.index(_TAIL)
    body = "".join(f"(call ${name})" for name in names) + "(loop $again (br $again))"
    text = f"{text[:start]}{_HEAD}{body}){text[end:]}"
    return bytes(wasmtime.wat2wasm(text.replace("@GREETING@", "x")))


def silent() -> bytes:
    return component("")


def begins_and_loops() -> bytes:
    """Writes a piece without flushing it, then computes for ever."""
    write = "(call $write (local.get $stream) (i32.const 128) (i32.const 5) (i32.const 64))"
    return component(_BEGIN + write + "(loop $again (br $again))", greeting="begun")


def floods() -> bytes:
    """Writes for ever, as fast as it is let, until the stream is closed."""
    return component(
        _BEGIN
        + """(loop $again
               (call $write (local.get $stream) (i32.const 128) (i32.const 32768) (i32.const 64))
               (br_if $again (i32.eqz (i32.load8_u (i32.const 64)))))"""
    )


def no_handler() -> bytes:
    return bytes(wasmtime.wat2wasm("(component)"))


def core_module() -> bytes:
    return bytes(wasmtime.wat2wasm('(module (func (export "_start")))'))


def newer() -> bytes:
    """Exports the handler of WASI 0.3, by name."""
    return bytes(
        wasmtime.wat2wasm(
            """(component
                 (instance $handler)
                 (export "wasi:http/handler@0.3.0" (instance $handler)))"""
        )
    )


def imports_and_exports(imported: str, exported: str) -> bytes:
    return bytes(
        wasmtime.wat2wasm(
            f"""(component
                  (import "{imported}" (instance $i (export "f" (func (param "x" u32)))))
                  (import "plain" (func $f))
                  (import "kind" (type $t (sub resource)))
                  (export "{exported}" (instance $i))
                  (export "again" (func $f)))"""
        )
    )


def calls(interface: str, function: str, *, at_start: bool = False) -> bytes:
    """Imports a function that takes and gives nothing, and calls it."""
    text = files("registry.demo").joinpath("hello.wat").read_text("utf-8")
    text = text.replace(
        "  ;; The memory has a module of its own",
        f"""  (import "{interface}" (instance $extra (export "{function}" (func))))
  (core func $extra (canon lower (func $extra "{function}")))
  ;; The memory has a module of its own""",
    )
    text = text.replace(
        '(import "host" "memory" (memory 1))',
        '(import "host" "memory" (memory 1)) (import "host" "extra" (func $extra))'
        + ("(start $extra)" if at_start else ""),
    )
    text = text.replace(
        '(export "memory" (memory $mem))',
        '(export "memory" (memory $mem)) (export "extra" (func $extra))',
    )
    text = text.replace(_HEAD, f"{_HEAD} (call $extra)") if not at_start else text
    text = text.replace(
        "(call $extra)\n      (local $response i32) (local $body i32) (local $stream i32)",
        "\n      (local $response i32) (local $body i32) (local $stream i32) (call $extra)",
    )
    return bytes(wasmtime.wat2wasm(text.replace("@GREETING@", "x").replace("@LENGTH@", "1")))
