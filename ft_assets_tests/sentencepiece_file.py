"""Writes the `tokenizer.model` of a SentencePiece vocabulary, which packages carry as a GGUF file only.

The few fields of the format that say something are written by hand: the classes in the `sentencepiece`
package need another version of protobuf than the one in constraints.txt.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BPE = 2


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | float | bytes) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, bytes):
        return _number(number << 3 | 2) + _number(len(value)) + value
    if isinstance(value, float):
        return _number(number << 3 | 5) + struct.pack("<f", value)
    return _number(number << 3) + _number(value)


def _pieces(fields: dict[str, Any], size: int) -> Iterator[bytes]:
    names = ("tokens", "scores", "token_type")
    columns = [fields[f"tokenizer.ggml.{name}"].contents()[:size] for name in names]
    for text, score, kind in zip(*columns, strict=True):
        piece = _field(1, text.encode()) + _field(2, float(score)) + _field(3, int(kind))
        yield _field(1, piece)


def write_sentencepiece(gguf: Path, target: Path, size: int) -> None:
    """Writes the first `size` pieces of a GGUF file's vocabulary as a SentencePiece model."""
    from gguf import GGUFReader

    fields: dict[str, Any] = GGUFReader(gguf).fields
    trainer = _field(3, _BPE) + _field(4, size) + _field(35, 1)  # kind, size, fallback to bytes
    # A space goes before every text, runs of spaces stay.
    normalizer = _field(1, b"identity") + _field(3, 1) + _field(4, 0) + _field(5, 1)
    target.write_bytes(b"".join(_pieces(fields, size)) + _field(2, trainer) + _field(3, normalizer))
