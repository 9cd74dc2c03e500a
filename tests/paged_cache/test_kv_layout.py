import pytest

from octavo.paged_cache import KVLayout

SIZES = [("float32", 4), ("float16", 2), ("bfloat16", 2), ("float8_e4m3fn", 1)]


def test_sizes_of_smollm2_in_bfloat16():
    layout = KVLayout(num_layers=30, num_kv_heads=3, head_dim=64, block_size=16, dtype="bfloat16")
    assert layout.bytes_per_token == 30 * 2 * 3 * 64 * 2 == 23_040
    assert layout.bytes_per_block == 368_640
    assert layout.shape(11) == (30, 2, 11, 3, 16, 64)


@pytest.mark.parametrize(("dtype", "num_bytes"), SIZES)
def test_value_size_follows_the_dtype(dtype, num_bytes):
    assert KVLayout(1, 1, 1, 1, dtype).bytes_per_token == 2 * num_bytes


def test_bad_layouts_are_refused_with_the_value():
    with pytest.raises(ValueError, match="head_dim must be at least 1, got 0"):
        KVLayout(1, 1, 0, 1, "float32")
    with pytest.raises(ValueError, match="float32, bfloat16, float16, float8_e4m3fn, got 'int8'"):
        KVLayout(1, 1, 1, 1, "int8")
