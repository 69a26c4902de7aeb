"""The GGUF container: the same reading as the reference package, and no trust in what a header claims."""

import struct

import gguf
import numpy as np
import pytest

from rl_reasoning import gguf_file
from tests.models import gguf_fixture as fixture


def header(entries=b"", *, count=0, tensors=0, version=3, body=b""):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, count) + entries + body


def text(value):
    return struct.pack("<Q", len(value)) + value


def test_agrees_with_the_reference_reader(tmp_path):
    """Every metadata entry, and every tensor's shape, type and bytes."""
    path = fixture.write(tmp_path / "tiny.gguf")
    ours, reference = gguf_file.read(path), gguf.GGUFReader(path)
    fields = {key: field for key, field in reference.fields.items() if not key.startswith("GGUF.")}
    assert ours.metadata.keys() == fields.keys()
    for key, field in fields.items():
        assert list(np.atleast_1d(ours.metadata[key])) == list(np.atleast_1d(field.contents()))
    assert list(ours.tensors) == [tensor.name for tensor in reference.tensors]
    for theirs in reference.tensors:
        tensor = ours.tensors[theirs.name]
        assert tensor.shape == tuple(theirs.shape[::-1])
        assert tensor.kind == theirs.tensor_type
        np.testing.assert_array_equal(ours.tensor_bytes(tensor, theirs.n_bytes), theirs.data.reshape(-1).view(np.uint8))


HUGE = struct.pack("<Q", 1 << 40)
FORGED = {
    "does not start with GGUF": b"PK\x03\x04" + bytes(100),
    "not a GGUF file": b"",
    "version 4": header(version=4),
    "version 50331648": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "truncated or damaged: 4 bytes": b"GGUF\x03",
    "truncated or damaged: 1099511627776 bytes": header(text(b"a") + struct.pack("<II", 9, 0) + HUGE, count=1),
    "truncated or damaged: 8796093022208 bytes": header(text(b"a") + struct.pack("<II", 9, 12) + HUGE, count=1),
    "truncated or damaged: 8 bytes": header(count=1 << 60),
    "truncated or damaged: 8 bytes expected": header(tensors=1 << 60),
    "damaged: 8 bytes expected at byte 49": header(text(b"a") + struct.pack("<II", 9, 8) + HUGE, count=1),
    "metadata of type 77": header(text(b"a") + struct.pack("<I", 77), count=1),
    "metadata of type 9": header(text(b"a") + struct.pack("<IIQ", 9, 9, 1), count=1),
    "'a' appears twice": header(2 * (text(b"a") + struct.pack("<Ib", 1, 5)), count=2),
    "can't decode byte 0xff": header(text(b"\xff") + struct.pack("<Ib", 1, 5), count=1),
    "general.alignment is 24": header(text(b"general.alignment") + struct.pack("<II", 4, 24), count=1),
    "has 4294967295 dimensions": header(tensors=1, body=text(b"x") + struct.pack("<I", 0xFFFFFFFF)),
    "two tensors have the same name": header(tensors=2, body=2 * (text(b"x") + struct.pack("<IIQ", 0, 0, 0))),
}


@pytest.mark.parametrize("message", FORGED)
def test_t16_a_forged_header_costs_one_error_and_no_memory(tmp_path, message):
    """Lengths of a tebibyte are refused before anything is allocated or looped over."""
    path = tmp_path / "forged.gguf"
    path.write_bytes(FORGED[message])
    with pytest.raises(ValueError, match=message) as caught:
        gguf_file.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_file_list_is_a_file_without_anything(tmp_path):
    path = tmp_path / "empty.gguf"
    path.write_bytes(header())
    file = gguf_file.read(path)
    assert (file.metadata, file.tensors, file.size) == ({}, {}, 24)


def test_a_folder_and_a_missing_file_are_said_to_be_so(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        gguf_file.read(tmp_path)
    with pytest.raises(FileNotFoundError):
        gguf_file.read(tmp_path / "none.gguf")
