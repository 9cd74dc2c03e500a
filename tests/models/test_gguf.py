import contextlib
import math
import random
import struct
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from octavo.models.config import ModelConfig, load_config
from octavo.models.errors import ModelError, ModelFormatError, UnsupportedModelError
from octavo.models.gguf_file import GGUFFile
from octavo.models.gguf_header import read_header
from octavo.models.resolve import ModelFiles
from octavo.models.tokenizer_files import load_tokenizer_files
from octavo.models.weights import read_tensors

from .conftest import BYTE_LEVEL_VOCABULARY, VOCAB, MakeGGUF, tiny_tensors

NUM_TRIALS = 300


def config_of(path: Path) -> ModelConfig:
    return load_config(ModelFiles("tiny", "gguf", path, (path,)))


def read_everything(path: Path) -> None:
    files = ModelFiles("tiny", "gguf", path, (path,))
    load_tokenizer_files(files)
    for _ in read_tensors(files, load_config(files)):
        pass


def test_metadata_of_every_type_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "types.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -100)
    writer.add_uint16("u16", 60000)
    writer.add_int16("i16", -30000)
    writer.add_int32("i32", -7)
    writer.add_uint64("u64", 2**63)
    writer.add_int64("i64", -(2**62))
    writer.add_float64("f64", math.pi)
    writer.add_bool("yes", True)
    writer.add_string("text", "naïve 中文 😀")
    writer.add_array("texts", ["", "a", "中"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("fractions", [0.5, -0.25])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    metadata = GGUFFile(path).metadata
    del metadata["general.architecture"]
    assert metadata == {
        "u8": 200,
        "i8": -100,
        "u16": 60000,
        "i16": -30000,
        "i32": -7,
        "u64": 2**63,
        "i64": -(2**62),
        "f64": math.pi,
        "yes": True,
        "text": "naïve 中文 😀",
        "texts": ["", "a", "中"],
        "numbers": [1, 2, 3],
        "fractions": [0.5, -0.25],
    }


def test_the_real_file_reads_like_with_the_gguf_package(smollm2_gguf: Path) -> None:
    ours, theirs = GGUFFile(smollm2_gguf), gguf.GGUFReader(smollm2_gguf)
    keys = [key for key in theirs.fields if not key.startswith("GGUF.")]
    assert list(ours.metadata) == keys
    for key in keys:
        if key != "tokenizer.ggml.merges":  # their reader takes a second for each of the lists
            assert ours.metadata[key] == theirs.fields[key].contents()
    assert [tensor.name for tensor in ours.tensors] == [tensor.name for tensor in theirs.tensors]
    for mine, other in zip(ours.tensors[:12], theirs.tensors[:12], strict=True):
        expected = gguf.quants.dequantize(other.data, other.tensor_type)
        np.testing.assert_array_equal(ours.dequantise(mine), expected)


def test_the_real_file_is_configured_as_published(smollm2_gguf: Path) -> None:
    config = config_of(smollm2_gguf)
    assert config.architecture == "llama"
    assert (config.hidden_size, config.num_layers, config.intermediate_size) == (576, 30, 1536)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (9, 3, 64)
    assert (config.vocab_size, config.max_position_embeddings) == (49152, 8192)
    assert config.rope_theta == 100000.0
    assert config.tie_word_embeddings
    assert config.num_parameters == 134_515_008
    assert (config.bos_token_id, config.eos_token_ids) == (1, (2,))


def test_configuration_of_each_architecture(make_gguf: MakeGGUF) -> None:
    llama = config_of(make_gguf())
    assert (llama.architecture, llama.vocab_size, llama.head_dim) == ("llama", VOCAB, 8)
    assert llama.tie_word_embeddings and not llama.qkv_bias and not llama.qk_norm
    assert llama.rope_scaling is None and llama.windows == (0, 0)
    bias = {f"blk.{i}.attn_{x}.bias": np.zeros(16, np.float32) for i in range(2) for x in "qkv"}
    qwen2 = config_of(make_gguf("qwen2", tensors={**tiny_tensors(), **bias}))
    assert qwen2.qkv_bias and not qwen2.o_bias
    qwen3 = config_of(make_gguf("qwen3", metadata={"qwen3.attention.key_length": 16}))
    assert qwen3.qk_norm and qwen3.head_dim == 16


@pytest.mark.parametrize(
    "key",
    ["embedding_length", "block_count", "context_length", "attention.layer_norm_rms_epsilon"],
)
def test_missing_key_is_named_with_its_file(make_gguf: MakeGGUF, key: str) -> None:
    path = make_gguf(leave_out=(f"llama.{key}",))
    with pytest.raises(ModelFormatError, match=rf"tiny\.gguf: the key 'llama\.{key}' is missing"):
        config_of(path)


def test_unknown_architecture_is_named_with_what_is_supported(make_gguf: MakeGGUF) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'mamba'.*llama, qwen2, qwen3"):
        config_of(make_gguf("mamba"))


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("llama.embedding_length", "32", ModelFormatError),
        ("llama.attention.head_count", 0, ModelFormatError),
        ("llama.attention.head_count_kv", [1, 2], UnsupportedModelError),
        ("llama.block_count", 2**31, ModelFormatError),
        ("llama.rope.freq_base", float("nan"), ModelFormatError),
        ("llama.rope.scaling.type", "longrope", UnsupportedModelError),
        ("llama.rope.dimension_count", 4, UnsupportedModelError),
        ("llama.expert_count", 8, UnsupportedModelError),
        ("split.count", 3, UnsupportedModelError),
        ("tokenizer.ggml.eos_token_id", "2", ModelFormatError),
    ],
)
def test_wrong_or_unsupported_value_is_an_error_naming_the_file(
    make_gguf: MakeGGUF, key: str, value: object, error: type[ModelError]
) -> None:
    with pytest.raises(error, match=r"tiny\.gguf: "):
        config_of(make_gguf(metadata={key: value}))


def test_rope_scaling_keys(make_gguf: MakeGGUF) -> None:
    def scaling(**metadata: Any) -> Any:
        return config_of(
            make_gguf(metadata={f"llama.rope.{key}": value for key, value in metadata.items()})
        ).rope_scaling

    assert scaling(scale_linear=2.0).kind == "linear"
    linear = scaling(**{"scaling.type": "linear", "scaling.factor": 4.0})
    assert (linear.kind, linear.factor) == ("linear", 4.0)
    yarn = scaling(
        **{
            "scaling.type": "yarn",
            "scaling.factor": 4.0,
            "scaling.original_context_length": 32,
        }
    )
    assert (yarn.kind, yarn.factor, yarn.original_max_position) == ("yarn", 4.0, 32)
    assert yarn.attention_factor == pytest.approx(0.1 * math.log(4) + 1)
    assert scaling(**{"scaling.type": "none", "scaling.factor": 4.0}) is None


def test_divisors_of_llama3_come_from_their_tensor(make_gguf: MakeGGUF) -> None:
    divisors = np.array([1, 1, 2, 8], dtype=np.float32)
    config = config_of(make_gguf(tensors={**tiny_tensors(), "rope_freqs.weight": divisors}))
    assert config.rope_scaling is not None
    assert config.rope_scaling.divisors == (1.0, 1.0, 2.0, 8.0)


def test_every_truncation_is_a_format_error(make_gguf: MakeGGUF, tmp_path: Path) -> None:
    whole = make_gguf(metadata=BYTE_LEVEL_VOCABULARY).read_bytes()
    cut = tmp_path / "cut.gguf"
    head = len(whole) - sum(tensor.nbytes for tensor in tiny_tensors().values())
    for size in [*range(0, head, 7), *range(head, len(whole), 997), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(ModelFormatError, match=r"cut\.gguf: "):
            GGUFFile(cut)


def test_flipped_bytes_raise_nothing_but_model_errors(make_gguf: MakeGGUF, tmp_path: Path) -> None:
    whole = make_gguf(metadata=BYTE_LEVEL_VOCABULARY).read_bytes()
    head = len(whole) - sum(tensor.nbytes for tensor in tiny_tensors().values())
    rng = random.Random(11)
    bad = tmp_path / "bad.gguf"
    for _ in range(NUM_TRIALS):
        flipped = bytearray(whole)
        for _ in range(rng.choice((1, 1, 1, 4))):
            flipped[rng.randrange(head)] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        bad.write_bytes(flipped)
        begin = time.thread_time()
        with contextlib.suppress(ModelError):
            read_everything(bad)
        assert time.thread_time() - begin < 5.0


def header(*parts: bytes, keys: int = 0, tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + b"".join(parts)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


HUGE = struct.pack("<Q", 2**62)
STRING, ARRAY = struct.pack("<I", 8), struct.pack("<I", 9)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GGUF",
        b"GGML" + bytes(100),
        header(keys=2**60),
        header(tensors=2**60),
        header(bytes(100), keys=5),
        header(HUGE, keys=1),
        header(text(b"k"), STRING, HUGE, keys=1),
        header(text(b"k"), ARRAY, STRING, HUGE, keys=1),
        header(text(b"k"), ARRAY, STRING, struct.pack("<Q", 4_000_000), keys=1),
        header(text(b"k"), ARRAY, struct.pack("<I", 0), HUGE, keys=1),
        header(text(b"k"), struct.pack("<I", 99), keys=1),
        header(*[text(b"k"), b"\0\0\0\0\1"] * 2, keys=2),
        header(text(b"general.alignment"), b"\4\0\0\0\3\0\0\0", keys=1),
        header(text(b"t"), b"\xff\xff\xff\xff", bytes(100), tensors=1),
        header(text(b"t"), struct.pack("<IQIQ", 1, 2**63, 0, 0), bytes(64), tensors=1),
        header(text(b"t"), struct.pack("<IQQIQ", 2, 2**63, 2, 0, 0), bytes(64), tensors=1),
        header(text(b"t"), struct.pack("<IQIQ", 1, 4, 0, 2**63), bytes(64), tensors=1),
        header(text(b"t"), struct.pack("<IQIQ", 1, 4, 777, 0), bytes(64), tensors=1),
        header(text(b"t"), struct.pack("<IQIQ", 1, 33, 8, 0), bytes(64), tensors=1),
        header(text(b"t"), struct.pack("<IIQ", 0, 8, 0), bytes(64), tensors=1),
        header(*[text(b"t"), struct.pack("<IQIQ", 1, 1, 0, 0)] * 2, bytes(64), tensors=2),
    ],
)
def test_hostile_header_is_refused_at_once(data: bytes) -> None:
    begin = time.thread_time()
    with pytest.raises(ModelFormatError):
        read_header(memoryview(data))
    assert time.thread_time() - begin < 1.0


@pytest.mark.parametrize("version", [1, 4, 0x03000000])
def test_other_version_or_byte_order_is_unsupported(version: int) -> None:
    data = b"GGUF" + struct.pack("<IQQ", version, 0, 0)
    with pytest.raises(UnsupportedModelError, match=r"version|endian"):
        read_header(memoryview(data))


def test_empty_absent_and_folder_paths_are_format_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.gguf").touch()
    for name in ("empty.gguf", "absent.gguf", "."):
        with pytest.raises(ModelFormatError, match="cannot be read"):
            GGUFFile(tmp_path / name)


def test_type_that_cannot_be_dequantised_is_named(make_gguf: MakeGGUF) -> None:
    path = make_gguf(tensors={"token_embd.weight": np.zeros((4, 4), np.int32)})
    file = GGUFFile(path)
    with pytest.raises(UnsupportedModelError, match=r"tiny\.gguf.*token_embd\.weight.*I32"):
        file.dequantise(file.tensors[0])


DEQUANTISABLE = [
    kind
    for kind in gguf.GGMLQuantizationType
    if kind.name.startswith(("Q", "IQ", "TQ", "MXFP", "NVFP"))
    and kind.name not in ("Q8_1", "Q8_K", "Q1_0")  # of sums within llama.cpp, or not in the package
]


@pytest.mark.parametrize("kind", DEQUANTISABLE, ids=lambda kind: kind.name)
def test_each_quantised_type_reads_as_the_gguf_package_reads_it(
    tmp_path: Path, kind: gguf.GGMLQuantizationType
) -> None:
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    rows, row_blocks = 5, 3
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 120, (rows, row_blocks * block_bytes), dtype=np.uint8)
    path = tmp_path / "one.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("t", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GGUFFile(path)
    values = file.dequantise(file.tensors[0])
    assert values.shape == (rows, row_blocks * block_size)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, gguf.quants.dequantize(raw, kind))
