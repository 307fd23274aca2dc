"""Claim: every layout puts each code where its definition says, and unpacking gives back exactly what was packed.

The bit patterns are written out by hand from the definitions, and the slots of each layout are counted by explicit
loops; neither reads the layout values. Every code of every format is tried at every slot of a word.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.packed_layouts import (
    AWQ,
    GPTQ,
    GPTQ_V2_ZEROS,
    GPTQ_ZEROS,
    LAYOUTS,
    MARLIN,
    ONNX,
    TORCHAO,
    TORCHAO_TINYGEMM,
    PackedLayout,
)
from simulator.arithmetic.packing import pack, unpack

INT4, UINT4, INT2, UINT2 = (IntFormat(b, s) for b in (4, 2) for s in (True, False))
FORMATS = {str(fmt): fmt for fmt in (INT4, UINT4, INT2, UINT2)}
CASES = [(layout, FORMATS[name]) for layout in LAYOUTS.values() for name in layout.formats]
INTERLEAVE = [0, 2, 4, 6, 1, 3, 5, 7]

cases = pytest.mark.parametrize(("layout", "fmt"), CASES, ids=[f"{v.name}-{f}" for v, f in CASES])


def legal(layout, fmt):
    shift = 1 if layout is GPTQ_ZEROS else 0
    return range(fmt.qmin + shift, fmt.qmax + shift + 1)


def stored_value(layout, fmt, code):
    """The bits of one code, from the definition."""
    if layout is GPTQ_ZEROS:
        return code - 1
    if layout is MARLIN and fmt.signed:
        return code + 8
    return code % 2**fmt.bits


def place(layout, fmt, shape, index):
    """(index of the stored word, position of the code's lowest bit), from the definition."""
    s = (8 if layout in (ONNX, TORCHAO, TORCHAO_TINYGEMM) else 32) // fmt.bits
    if layout is ONNX:
        flat = int(np.ravel_multi_index(index, shape))
        return (flat // s,), flat % s * fmt.bits
    *front, last = index
    if layout is TORCHAO:
        return (*front, last // s), last % s * fmt.bits
    if layout is TORCHAO_TINYGEMM:
        return (*front, last // s), (1 - last % s) * fmt.bits
    row, column = index
    if layout is GPTQ:
        return (row // s, column), row % s * fmt.bits
    if layout in (GPTQ_ZEROS, GPTQ_V2_ZEROS):
        return (row, column // s), column % s * fmt.bits
    if layout is AWQ:
        return (row, column // s), INTERLEAVE.index(column % 8) * fmt.bits
    # Marlin: a lane of the warp holds rows 2q, 2q+1, 2q+8, 2q+9 of columns c and c+8 of each of four tiles
    q, c = row % 8 // 2, column % 8
    lane, tile = 4 * c + q, column % 64 // 16
    of_lane = [2 * q, 2 * q + 1, 2 * q + 8, 2 * q + 9].index(row % 16) + 4 * (column % 16 // 8)
    return (row // 16, column // 64 * 128 + 4 * lane + tile), INTERLEAVE.index(of_lane) * fmt.bits


def shape_of(layout, fmt, words):
    """A shape of ``words`` units along the packed axis (ragged for ONNX)."""
    s = (8 if layout in (ONNX, TORCHAO, TORCHAO_TINYGEMM) else 32) // fmt.bits
    return {
        "ONNX": (words, 5),
        "torchao": (3, 2, words * s),
        "torchao tinygemm": (3, words * s),
        "GPTQ": (words * s, 5),
        "Marlin": (16 * words, 64 * 2),
    }.get(layout.name, (3, words * s))


def random_codes(layout, fmt, shape, seed):
    codes = legal(layout, fmt)
    return np.random.default_rng(seed).integers(codes[0], codes[-1] + 1, shape).astype(fmt.dtype)


def as_unsigned(word):
    return int(word) % 2**32


# Bit patterns by hand: one word each.


def test_onnx__puts_even_indices_in_the_low_nibble() -> None:
    codes = np.array([[1, -1, -8], [7, 0, -3]], np.int8)
    assert pack(codes, ONNX, INT4).tolist() == [0xF1, 0x78, 0xD0]


def test_onnx__puts_four_int2_in_a_byte_from_the_lowest_bits() -> None:
    # fields 01 10 11 00, lowest first: 0b00_11_10_01
    assert pack(np.array([1, -2, -1, 0], np.int8), ONNX, INT2).tolist() == [0b00111001]
    assert pack(np.array([3, 0, 2, 1], np.uint8), ONNX, UINT2).tolist() == [0b01100011]


@pytest.mark.parametrize(("count", "want"), [(0, []), (1, [0x0F]), (2, [0xFF]), (3, [0xFF, 0x0F])])
def test_onnx__fills_an_incomplete_byte_with_zeros(count, want) -> None:
    assert pack(np.full(count, -1, np.int8), ONNX, INT4).tolist() == want


def test_onnx__packs_a_scalar_into_one_byte() -> None:
    packed = pack(np.array(-2, np.int8), ONNX, INT4)
    assert packed.tolist() == [0x0E]
    assert unpack(packed, ONNX, (), INT4) == -2


def test_torchao__puts_even_indices_low_and_tinygemm_high() -> None:
    codes = np.array([[1, 2, 3, 15]], np.uint8)
    assert pack(codes, TORCHAO, UINT4).tolist() == [[0x21, 0xF3]]
    assert pack(codes, TORCHAO_TINYGEMM, UINT4).tolist() == [[0x12, 0x3F]]


def test_gptq__packs_eight_rows_of_a_column_lowest_first() -> None:
    codes = np.array([[0, 15], [1, 0], [2, 0], [3, 0], [4, 0], [5, 0], [6, 0], [9, 1]], np.uint8)
    packed = pack(codes, GPTQ, UINT4)
    assert packed.dtype == np.int32
    assert [as_unsigned(w) for w in packed[0]] == [0x96543210, 0x1000000F]


def test_gptq__packs_sixteen_rows_of_uint2() -> None:
    codes = (np.arange(16, dtype=np.uint8) % 4)[:, None]
    assert as_unsigned(pack(codes, GPTQ, UINT2)[0, 0]) == 0xE4E4E4E4  # 0b11_10_01_00 four times


def test_gptq_zeros__are_stored_minus_one_along_n_and_as_they_are_in_v2() -> None:
    zeros = np.array([[1, 2, 3, 4, 5, 6, 7, 8]], np.uint8)
    assert as_unsigned(pack(zeros, GPTQ_ZEROS, UINT4)[0, 0]) == 0x76543210
    assert as_unsigned(pack(zeros, GPTQ_V2_ZEROS, UINT4)[0, 0]) == 0x87654321


def test_gptq_zeros__differ_by_one_in_every_field_between_the_two_formats() -> None:
    zeros = np.full((2, 16), 8, np.uint8)
    assert {as_unsigned(w) for w in pack(zeros, GPTQ_ZEROS, UINT4).flat} == {0x77777777}
    assert {as_unsigned(w) for w in pack(zeros, GPTQ_V2_ZEROS, UINT4).flat} == {0x88888888}


def test_awq__interleaves_the_columns() -> None:
    codes = np.arange(8, dtype=np.uint8)[None]
    assert as_unsigned(pack(codes, AWQ, UINT4)[0, 0]) == 0x75316420


def test_marlin__gives_the_first_lane_its_eight_codes_of_the_first_tile() -> None:
    codes = np.zeros((16, 64), np.uint8)
    # lane 0 holds rows 0, 1, 8, 9 of column 0, then of column 8; slots take them in the order 0 2 4 6 1 3 5 7
    for value, (row, column) in enumerate([(0, 0), (1, 0), (8, 0), (9, 0), (0, 8), (1, 8), (8, 8), (9, 8)]):
        codes[row, column] = value
    packed = pack(codes, MARLIN, UINT4)
    assert packed.shape == (1, 128)
    assert as_unsigned(packed[0, 0]) == 0x75316420
    assert not packed[0, 1:].any()


def test_marlin__puts_the_four_tiles_of_a_lane_in_consecutive_words() -> None:
    codes = np.zeros((16, 64), np.uint8)
    codes[0, [0, 16, 32, 48]] = [1, 2, 3, 4]
    codes[2, 0], codes[0, 1] = 5, 6  # lane 1 (next row pair), lane 4 (next column)
    packed = pack(codes, MARLIN, UINT4)
    assert packed[0, :5].tolist() == [1, 2, 3, 4, 5]
    assert packed[0, 16] == 6


def test_marlin__has_zero_point_eight() -> None:
    codes = np.zeros((16, 64), np.int8)
    assert {as_unsigned(w) for w in pack(codes, MARLIN, INT4).flat} == {0x88888888}
    same = random_codes(MARLIN, INT4, (32, 128), 0)
    np.testing.assert_array_equal(pack(same, MARLIN, INT4), pack((same + 8).astype(np.uint8), MARLIN, UINT4))


# Every code at every slot, and every element at the place that the definition gives.


@cases
def test_pack__stores_every_code_at_every_slot(layout, fmt) -> None:
    shape = shape_of(layout, fmt, 1)
    base = 1 if layout is GPTQ_ZEROS else 0
    background = stored_value(layout, fmt, base)
    empty = pack(np.full(shape, base, fmt.dtype), layout, fmt)
    positions = set()
    for index in [index for index in np.ndindex(shape) if layout is not MARLIN or index[1] in (0, 8, 9, 63)]:
        word, shift = place(layout, fmt, shape, index)
        positions.add(shift)
        for code in legal(layout, fmt):
            codes = np.full(shape, base, fmt.dtype)
            codes[index] = code
            packed = pack(codes, layout, fmt)
            changed = empty.copy()
            field = (background ^ stored_value(layout, fmt, code)) << shift
            changed[word] ^= np.uint32(field).astype(changed.dtype)
            np.testing.assert_array_equal(packed, changed)
            np.testing.assert_array_equal(unpack(packed, layout, shape, fmt), codes)
    assert positions == set(range(0, 8 if empty.dtype == np.uint8 else 32, fmt.bits))


@cases
def test_pack__puts_each_element_where_the_definition_says(layout, fmt) -> None:
    shape = shape_of(layout, fmt, 3)
    codes = random_codes(layout, fmt, shape, 1)
    packed = pack(codes, layout, fmt)
    want = np.zeros(packed.shape, np.uint32)
    for index in np.ndindex(shape):
        word, shift = place(layout, fmt, shape, index)
        want[word] |= np.uint32(stored_value(layout, fmt, int(codes[index])) << shift)
    np.testing.assert_array_equal(packed, want.astype(packed.dtype))
    assert packed.dtype == (np.uint8 if layout in (ONNX, TORCHAO, TORCHAO_TINYGEMM) else np.int32)


@cases
@given(data=st.data())
def test_unpack__inverts_pack_for_any_shape(layout, fmt, data) -> None:
    unit = (8 if layout in (TORCHAO, TORCHAO_TINYGEMM) else 32) // fmt.bits
    n = st.integers(0, 4)
    if layout is ONNX:
        shape = tuple(data.draw(st.lists(n, max_size=4)))
    elif layout in (TORCHAO, TORCHAO_TINYGEMM):
        shape = (*data.draw(st.lists(n, max_size=3)), data.draw(n) * unit)
    elif layout is MARLIN:
        shape = (16 * data.draw(n), 64 * data.draw(n))
    else:
        shape = (data.draw(n) * unit, data.draw(n)) if layout is GPTQ else (data.draw(n), data.draw(n) * unit)
    codes = random_codes(layout, fmt, shape, data.draw(st.integers(0, 9)))
    packed = pack(codes, layout, fmt)
    back = unpack(packed, layout, shape, fmt)
    np.testing.assert_array_equal(back, codes)
    assert back.dtype == codes.dtype
    assert back.shape == shape
    np.testing.assert_array_equal(pack(back, layout, fmt), packed)
    if layout is not ONNX:
        assert packed.nbytes * 8 == codes.size * fmt.bits


@cases
def test_pack__takes_any_strides_and_leaves_its_input(layout, fmt) -> None:
    codes = random_codes(layout, fmt, shape_of(layout, fmt, 2), 2)
    kept = codes.copy()
    np.testing.assert_array_equal(pack(np.asfortranarray(codes), layout, fmt), pack(codes, layout, fmt))
    twice = np.repeat(codes, 2, axis=0)[::2]
    np.testing.assert_array_equal(pack(twice, layout, fmt), pack(codes, layout, fmt))
    np.testing.assert_array_equal(codes, kept)
    packed = pack(codes, layout, fmt)
    wide = np.repeat(packed, 2, axis=-1)[..., ::2]
    np.testing.assert_array_equal(unpack(wide, layout, codes.shape, fmt), codes)


def test_unpack__reads_every_word_of_a_foreign_file() -> None:
    for byte in range(256):
        low, high = byte & 15, byte >> 4
        packed = np.array([[byte]], np.uint8)
        assert unpack(packed, TORCHAO, (1, 2), UINT4).tolist() == [[low, high]]
        assert unpack(packed, TORCHAO, (1, 2), INT4).tolist() == [[low - 16 * (low > 7), high - 16 * (high > 7)]]
    words = np.array([[-1]], np.int32)
    assert unpack(words, GPTQ_ZEROS, (1, 8), UINT4).tolist() == [[16] * 8]


def test_unpack__ignores_bits_beyond_the_last_onnx_element() -> None:
    assert unpack(np.array([0x21, 0xF3], np.uint8), ONNX, (3,), UINT4).tolist() == [1, 2, 3]


# Errors.


@cases
def test_pack__refuses_a_code_outside_the_format(layout, fmt) -> None:
    codes = random_codes(layout, fmt, shape_of(layout, fmt, 1), 3)
    for bad in (legal(layout, fmt)[0] - 1, legal(layout, fmt)[-1] + 1):
        if bad >= np.iinfo(fmt.dtype).min:
            codes[-1, -1] = bad
            with pytest.raises(BadInput, match="stores values from"):
                pack(codes, layout, fmt)


def test_pack__refuses_a_zero_point_that_gptq_cannot_store() -> None:
    with pytest.raises(BadInput, match="from 1 to 16"):
        pack(np.zeros((1, 8), np.uint8), GPTQ_ZEROS, UINT4)


def test_pack__keeps_a_narrow_format_narrow() -> None:
    narrow = IntFormat(4, narrow=True)
    full = np.array([-8, 7], np.int8)
    with pytest.raises(BadInput, match="from -7 to 7"):
        pack(full, ONNX, narrow)
    with pytest.raises(BadInput, match="no code below -7"):
        unpack(pack(full, ONNX, INT4), ONNX, (2,), narrow)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.bool_, np.uint8])
@cases
def test_pack__refuses_another_dtype(layout, fmt, dtype) -> None:
    if dtype != fmt.dtype:
        codes = np.ones(shape_of(layout, fmt, 1), dtype)
        with pytest.raises(BadInput, match="must be"):
            pack(codes, layout, fmt)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("fmt", [*FORMATS.values(), IntFormat(3), IntFormat(8, signed=False)], ids=str)
def test_layouts__define_only_their_formats(layout, fmt) -> None:
    if str(fmt) in layout.formats:
        return
    codes = np.zeros((16, 64), fmt.dtype)
    with pytest.raises(BadInput, match=r"is defined for .* only"):
        pack(codes, layout, fmt)
    with pytest.raises(BadInput, match=r"is defined for .* only"):
        unpack(np.zeros((1, 1), np.int32), layout, (16, 64), fmt)


@pytest.mark.parametrize("layout", [TORCHAO, TORCHAO_TINYGEMM, AWQ, MARLIN], ids=lambda v: v.name)
def test_layouts__without_int2_say_why(layout) -> None:
    with pytest.raises(BadInput, match=r"only \(.*(2-bit|eight 4-bit)"):
        pack(np.zeros((16, 64), np.uint8), layout, UINT2)


@pytest.mark.parametrize(
    ("layout", "shape", "axis"),
    [
        (TORCHAO, (2, 3, 5), 2),
        (TORCHAO_TINYGEMM, (3,), 0),
        (GPTQ, (12, 8), 0),
        (GPTQ_ZEROS, (8, 12), 1),
        (AWQ, (8, 12), 1),
        (MARLIN, (24, 64), 0),
        (MARLIN, (16, 32), 1),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_pack__names_the_axis_whose_length_does_not_fit(layout, shape, axis) -> None:
    with pytest.raises(BadInput, match=f"units of .* along axis {axis}, got length {shape[axis]}"):
        pack(np.ones(shape, np.uint8), layout, UINT4)


@pytest.mark.parametrize("layout", [v for v in LAYOUTS.values() if v is not ONNX], ids=lambda v: v.name)
def test_pack__refuses_another_rank(layout) -> None:
    for shape in [(), *([(64,), (1, 16, 64)] if layout not in (TORCHAO, TORCHAO_TINYGEMM) else [])]:
        with pytest.raises(BadInput, match="rank"):
            pack(np.ones(shape, np.uint8), layout, UINT4)


@cases
def test_unpack__refuses_a_shape_or_dtype_that_pack_would_not_give(layout, fmt) -> None:
    shape = shape_of(layout, fmt, 2)
    packed = pack(random_codes(layout, fmt, shape, 4), layout, fmt)
    for wrong in (packed[..., :-1], packed[None], packed.reshape(-1)[:0]):
        with pytest.raises(BadInput, match="are stored as"):
            unpack(wrong, layout, shape, fmt)
    with pytest.raises(BadInput, match="is stored as"):
        unpack(packed.astype(np.int64), layout, shape, fmt)
    with pytest.raises(BadInput, match="at least 0"):
        unpack(packed, layout, (-1, *shape[1:]), fmt)


def test_layout__checks_its_own_digits() -> None:
    with pytest.raises(BadInput, match="once in the words or the slot"):
        PackedLayout("lost digit", ("uint4",), 8, ("ws",), ("v",))
    with pytest.raises(BadInput, match="word_bits"):
        PackedLayout("wide", ("uint4",), 64, ("ws",), ("w",))
    with pytest.raises(BadInput, match="fill a word"):
        PackedLayout("half full", ("uint4",), 32, ("wt",), ("w",), slot="t", sizes=(("t", 4),))
