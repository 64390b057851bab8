"""XLA's C interface: what we read of jaxlib's header, and that another layout is refused with a reason."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from approxtrain_kernels import conv_shape, native
from approxtrain_kernels.native import header

HEADER = Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h"
pytestmark = pytest.mark.skipif(not native.available(), reason="no code of our own for this processor")


@pytest.fixture
def read(monkeypatch, tmp_path):
    """What is made of a header with this text; None: there is none."""
    path = tmp_path / "xla/ffi/api/c_api.h"
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path))

    def read_text(text: str | None):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        return header.interface.__wrapped__()

    return read_text


def test_sizes_are_those_that_a_compiler_would_find():
    layouts = header.Layouts(re.sub(r"//[^\n]*", "", HEADER.read_text()))
    for name, (size, _) in header.KNOWN.items():
        assert layouts.of(f"XLA_FFI_{name}")[0] == size
    padded = "enum { A };\nstruct S {\n  int a;\n  size_t b;\n  int c;\n  void** d;\n  int e;\n};\n"
    size, offsets = header.Layouts(padded + "XLA_FFI_DEFINE_STRUCT_TRAITS(S, e);").of("S")
    assert (size, offsets) == (36, {"a": 0, "b": 8, "c": 16, "d": 24, "e": 32})


def test_the_functions_stand_where_the_header_has_them(read):
    text = HEADER.read_text()
    functions = re.findall(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\);", text)
    known = read(text)
    assert known["API_SIZE"] == 48 + 8 * len(functions)
    for name in header.CALLED:
        assert known[name.upper()] == 48 + 8 * functions.index(f"XLA_FFI_{name}")


CHANGES = {
    "another major version": ("XLA_FFI_API_MAJOR 0", "XLA_FFI_API_MAJOR 1", "major version 1; known is 0"),
    "a function is gone": (
        "_XLA_FFI_API_STRUCT_FIELD(XLA_FFI_ThreadPool_Schedule);", "", "has no ThreadPool_Schedule",
    ),
    "a field before the operands": (
        "XLA_FFI_ExecutionStage stage;", "XLA_FFI_ExecutionStage stage;\n  void* more;", "CallFrame .* args, rets",
    ),
    "a field in the list of operands": (
        "void** args;             // length == size", "void** args;\n  void* more;", "CallFrame .* the fields rets",
    ),
    "a last field in a buffer": (
        "XLA_FFI_DEFINE_STRUCT_TRAITS(XLA_FFI_Buffer, dims)", "XLA_FFI_DEFINE_STRUCT_TRAITS(XLA_FFI_Buffer, rank)",
        "Buffer .* 40 bytes, not 48",
    ),
    "a type that is not known": ("int64_t rank;", "float128 rank;", "has no float128"),
    "a field that cannot be read": ("int64_t rank;", "int64_t rank[4];", "Buffer .* cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "reason"), CHANGES.values(), ids=CHANGES)
def test_another_layout_is_refused_and_says_how_it_differs(read, old, new, reason):
    text = HEADER.read_text()
    assert old in text
    with pytest.raises(header.UnknownInterface, match=reason):
        read(text.replace(old, new))


@pytest.mark.parametrize("text", ["", None])
def test_no_header_is_refused(read, text):
    with pytest.raises(header.UnknownInterface):
        read(text)


def test_where_the_interface_is_not_known_convolutions_are_xlas_and_the_reason_can_be_shown(monkeypatch):
    def unknown():
        raise header.UnknownInterface("another layout")

    monkeypatch.setattr(header, "interface", unknown)
    monkeypatch.setattr(native, "refusal", native.refusal.__wrapped__)
    assert native.refusal() == "another layout"
    assert not native.available()
    assert not native.computes(conv_shape((2, 6, 6, 8), 16, (3, 3)), jnp.float32)
