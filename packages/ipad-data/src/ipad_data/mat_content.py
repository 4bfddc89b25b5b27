"""The content of MATLAB files, checked before SciPy reads it.

SciPy trusts what a file says: a type that does not exist, or a text that is longer than its data, ends the whole process
(segmentation fault, SciPy 1.17). So every element is checked here: that it lies within the one around it, is of a type
that may stand there, and has the size that its matrix says. MATLAB's Level 5 format is a header of 128 bytes and elements: a
type, a size, a body. The body of a matrix is elements again: its class, its sides, its name, and its data or its cells.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

_HEADER, _TAG = 128, 8  # bytes
_LARGEST = 1 << 28  # bytes of a matrix
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED, _UTF8 = 1, 5, 6, 14, 15, 16
_NUMBER_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_TEXT_SIZES = {1: 1, 2: 1, 4: 2, _UTF8: 1, 17: 2, 18: 4}
_CLASSES = {1: "cells", 4: "text", **dict.fromkeys(range(6, 16), "numbers")}


class Matrix(NamedTuple):
    """What a file says of a matrix: its name, ``numbers``, ``text`` or ``cells``, and its sides."""

    name: str
    kind: str
    shape: tuple[int, ...]


def checked_content(path: Path) -> tuple[bytes, list[Matrix]]:
    """Content of a file of numbers and of cells of text, with nothing compressed, and the matrices in it.

    Raises:
        ValueError: not such a file, or damaged.
        NotImplementedError: a file of version 7.3.
    """
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    version = struct.unpack(f"{order}H", content[124:126])[0] if order else None
    if version == 0x0200:
        raise NotImplementedError
    if version != 0x0100:
        raise ValueError("its header is another")
    plain, matrices = [content[:_HEADER]], []
    for kind, body, element in _elements(content[_HEADER:], order):
        inner = _inflate(body) if kind == _COMPRESSED else element
        for inner_kind, matrix, _ in _elements(inner, order):
            _expect(inner_kind == _MATRIX, f"an element of type {inner_kind} in place of a matrix")
            matrices.append(_check_matrix(matrix, order))
        plain.append(inner)
    return b"".join(plain), matrices


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes, bytes]]:
    """Type, body and whole of each of the elements that follow each other."""
    start = 0
    while start < len(content):
        _expect(start + _TAG <= len(content), "it is cut off")
        kind, size = struct.unpack_from(f"{order}II", content, start)
        body = start + _TAG
        if kind >> 16:  # a small element: its size is in the same word as its type, its body in the next
            kind, size, body = kind & 0xFFFF, kind >> 16, start + _TAG // 2
            _expect(size <= _TAG // 2, "a small element that is too large")
        stop = body + size
        _expect(stop <= len(content), "it is cut off")
        end = stop if kind == _COMPRESSED else start + -(-(stop - start) // _TAG) * _TAG
        yield kind, content[body:stop], content[start:end]
        start = end


def _check_matrix(body: bytes, order: str, in_cell: bool = False) -> Matrix:
    elements = [(kind, part) for kind, part, _ in _elements(body, order)]
    kinds = [kind for kind, _ in elements]
    _expect(kinds[:3] == [_UINT32, _INT32, _INT8], "a matrix without class, sides and name")
    (_, flags), (_, sides), (_, name), *data = elements
    _expect(len(flags) == 8 and len(sides) >= 8 and len(sides) % 4 == 0, "a matrix without class and sides")
    kind = _CLASSES.get(struct.unpack(f"{order}II", flags)[0] & 0xFF)
    shape = struct.unpack(f"{order}{len(sides) // 4}i", sides)
    _expect(min(shape) >= 0 and prod(shape) <= _LARGEST, f"a matrix of {shape}")
    if kind == "cells" and not in_cell:
        _expect(len(data) == prod(shape) and set(kinds[3:]) <= {_MATRIX}, "other cells than it says")
        for _, cell in data:
            _expect(_check_matrix(cell, order, in_cell=True).kind == "text", "a cell that holds no text")
    else:
        sizes = {"numbers": _NUMBER_SIZES, "text": _TEXT_SIZES}.get(kind, {})
        _expect(len(data) == 1 and data[0][0] in sizes, "a matrix that holds neither numbers nor cells of text")
        number = len(data[0][1].decode()) if data[0][0] == _UTF8 else len(data[0][1]) / sizes[data[0][0]]
        _expect(number == prod(shape), "a matrix of another size than it says")
    return Matrix(name.decode("ascii"), kind, shape)


def _inflate(compressed: bytes) -> bytes:
    inflator = zlib.decompressobj()
    content = inflator.decompress(compressed, _LARGEST)
    _expect(inflator.eof, f"it is cut off, or holds more than {_LARGEST >> 20} MiB")
    return content


def _expect(fits: bool, problem: str) -> None:
    if not fits:
        raise ValueError(problem)
