"""Storage layouts of int4 and int2 codes, as values.

A layout factors the axes of the codes into named digits, then says which digits number the stored words and which
number the slots inside a word. Slot 0 is the lowest bits. Written as ``codes -> words | slot``, most significant digit
first, GPTQ is ``(k s) (n) -> (k) (n) | s`` with s = 8 at 4 bits: element ``[8k + s, n]`` lies in slot s of word
``[k, n]``. :func:`simulator.arithmetic.packing.pack` and ``unpack`` read these values.

Each constant's docstring says which project's code it follows, and whether that code was run against ours
(``tests/peers/test_packing_peers.py``) or only read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat


@dataclass(frozen=True)
class PackedLayout:
    """Where each code lies in the stored words.

    Args:
        name: for messages.
        formats: the formats that the layout defines (``"uint4"``, ...).
        word_bits: 8 (words are uint8) or 32 (words are int32, the bits of the unsigned word).
        codes: digits of each axis, one letter each. One axis: the codes are flattened in row-major order.
        words: digits of each axis of the stored array.
        slot: digits of the position inside a word.
        sizes: size of the fixed digits. The slot digit ``s`` has as many values as codes fit in a word; the first
            digit of an axis takes the rest of its length.
        leading: codes of any rank of at least 1, packed along the last axis.
        high_first: slot 0 is the highest bits instead.
        pads: an incomplete last word is filled with zeros; else the length must fit.
        biased: signed codes are stored plus ``2**(bits - 1)``, not in two's complement.
        minus_one: values are stored minus one (GPTQ's zero points), so 1..2**bits are legal.
        int2_note: why the layout has no 2-bit form.
    """

    name: str
    formats: tuple[str, ...]
    word_bits: int
    codes: tuple[str, ...]
    words: tuple[str, ...]
    slot: str = "s"
    sizes: tuple[tuple[str, int], ...] = ()
    leading: bool = False
    high_first: bool = False
    pads: bool = False
    biased: bool = False
    minus_one: bool = False
    int2_note: str = ""

    def __post_init__(self) -> None:
        stored, given = sorted("".join((*self.words, self.slot))), sorted("".join(self.codes))
        if stored != given or len(set(given)) != len(given) or "" in self.codes:
            raise BadInput(
                "every digit of the codes must appear once in the words or the slot",
                got=f"codes {self.codes}, words {self.words}, slot {self.slot!r}",
                fix="name each digit by its own letter on both sides",
            )
        if self.word_bits not in (8, 32):
            raise BadInput("word_bits must be 8 or 32", got=self.word_bits, fix="store bytes or 32-bit words")
        for name in self.formats:
            sizes = self.digit_sizes(int(name.lstrip("uint")))
            if math.prod(sizes[d] for d in self.slot) * int(name.lstrip("uint")) != self.word_bits:
                raise BadInput("the slots must fill a word", got=f"{self.slot!r} of {name}", fix="change the sizes")

    def check_format(self, fmt: IntFormat) -> None:
        """Raise :class:`BadInput` if the layout does not define ``fmt`` (narrow or not)."""
        name = f"{'int' if fmt.signed else 'uint'}{fmt.bits}"
        if name not in self.formats:
            note = f" ({self.int2_note})" if fmt.bits == 2 and self.int2_note else ""
            raise BadInput(
                f"{self.name} is defined for {', '.join(self.formats)} only{note}",
                got=name,
                fix="use one of them, or another layout; a signed code plus 2**(bits-1) is an unsigned one",
            )

    def digit_sizes(self, bits: int) -> dict[str, int]:
        """Sizes of the fixed digits for codes of ``bits`` bits."""
        return {**dict(self.sizes), "s": self.word_bits // bits}


_PROTOTYPES = "torchao's prototypes disagree on the order of 2-bit codes, and no stable workflow stores them"
_FOUR_BIT_ORDER = "its order is given for eight 4-bit codes"

ONNX = PackedLayout("ONNX", ("int4", "uint4", "int2", "uint2"), word_bits=8, codes=("ws",), words=("w",), pads=True)
"""``onnx.TensorProto`` ``raw_data``: row-major, first element in the lowest bits, last byte padded with zeros.

Codes of any shape -> uint8 ``[ceil(size / s)]``, s = 2 (4 bits) or 4 (2 bits); negatives in two's complement::

    int4   bit 7     4 3     0        int2   bit 7 6 5 4 3 2 1 0
           [ x[2w+1] | x[2w] ]               [ x3 | x2 | x1 | x0 ]   xi = x[4w + i]

Source: onnx 1.23.2, ``onnx.proto`` (comments at ``int32_data`` and ``raw_data``) and ``numpy_helper``. Run against it.
"""

TORCHAO = PackedLayout("torchao", ("int4", "uint4"), 8, ("l", "ws"), ("l", "w"), leading=True, int2_note=_PROTOTYPES)
"""Two codes of the last axis per byte, even index in the low nibble.

Codes ``[..., 2W]`` -> uint8 ``[..., W]``::

    bit 7        4 3       0
        [ x[2w+1] | x[2w]  ]

Source: torchao 0.18.0, ``prototype/mx_formats/kernels.py`` ``pack_uint4``, run against it for uint4; the same order was
read in ``int4_plain_int32_tensor.py`` (XPU) and ``intx_opaque_tensor.py``. int4: in two's complement (not run).
"""

TORCHAO_TINYGEMM = PackedLayout(
    "torchao tinygemm", ("uint4",), 8, ("l", "ws"), ("l", "w"), leading=True, high_first=True, int2_note=_PROTOTYPES
)
"""Two codes of the last axis per byte, even index in the HIGH nibble: what torchao hands to
``aten::_convert_weight_to_int4pack`` on CUDA (the tiling that operator then applies is not modelled).

Codes ``[..., 2W]`` -> uint8 ``[..., W]``::

    bit 7       4 3        0
        [ x[2w]  | x[2w+1] ]

Source: torchao 0.18.0, ``quantization/utils.py`` ``groupwise_affine_quantize_tensor_from_qparams`` and its inverse;
both run against ours on the CPU, with their device test made to answer "cuda".
"""

GPTQ = PackedLayout("GPTQ", ("uint4", "uint2"), 32, codes=("ks", "n"), words=("k", "n"))
"""GPTQ checkpoints' ``qweight``: consecutive codes along K (input features), lowest bits first.

Codes ``[K, N]`` -> int32 ``[K / s, N]``, s = 8 (4 bits) or 16 (2 bits), K a multiple of s (AutoGPTQ asks for 32)::

    uint4   bit 31                                    0
            [ x[8k+7, n] | x[8k+6, n] | ... | x[8k, n] ]

Source: AutoGPTQ 0.7.1, ``nn_modules/qlinear/qlinear_cuda.py`` ``QuantLinear.pack``, run against it at 2 and 4 bits.
"""

GPTQ_ZEROS = PackedLayout("GPTQ zeros", ("uint4", "uint2"), 32, ("g", "ns"), ("g", "n"), minus_one=True)
"""``qzeros`` of checkpoint format ``gptq``: consecutive along N, each zero point stored MINUS ONE.

Zero points ``[groups, N]`` in 1..2**bits -> int32 ``[groups, N / s]``, N a multiple of s::

    uint4   bit 31                                                0
            [ z[g, 8n+7] - 1 | z[g, 8n+6] - 1 | ... | z[g, 8n] - 1 ]

Zero point 0 has no field here (AutoGPTQ's own pack then spoils the neighbours in the word): a typed error. A stored
``2**bits - 1`` reads as ``2**bits``, as AutoGPTQ's torch path reads it. Source: as :data:`GPTQ`, run against it.
"""

GPTQ_V2_ZEROS = PackedLayout("GPTQ v2 zeros", ("uint4", "uint2"), 32, ("g", "ns"), ("g", "n"))
"""``qzeros`` of checkpoint format ``gptq_v2``: as :data:`GPTQ_ZEROS`, but the zero point itself is stored.

Source: AutoGPTQ pull request 640 and vLLM pull request 26092; read, not run.
"""

AWQ = PackedLayout(
    "AWQ", ("uint4",), 32, ("k", "ntr"), ("k", "n"), slot="rt", sizes=(("t", 4), ("r", 2)), int2_note=_FOUR_BIT_ORDER
)
"""AWQ "GEMM" checkpoints, ``qweight`` and ``qzeros`` alike: along N, even indices in the low half-word.

Codes ``[K, N]`` (``qzeros``: ``[groups, N]``, stored as they are) -> int32 ``[K, N / 8]``, N a multiple of 8::

    bit 31                            16 15                             0
        [ x[8n+7] | x[+5] | x[+3] | x[+1] | x[+6] | x[+4] | x[+2] | x[8n] ]     slots hold 0 2 4 6 1 3 5 7

Source: AutoAWQ 0.2.9, ``utils/packing_utils.py`` (unpacking, run against it) and ``modules/linear/gemm.py``
``from_linear`` (packing, read).
"""

MARLIN = PackedLayout(
    "Marlin",
    ("int4", "uint4"),
    32,
    codes=("khqr", "njbc"),
    words=("k", "ncqj"),
    slot="rbh",
    sizes=(("h", 2), ("q", 4), ("r", 2), ("j", 4), ("b", 2), ("c", 8)),
    biased=True,
    int2_note=_FOUR_BIT_ORDER,
)
"""Marlin's ``B``: 16x16 tiles, four side by side; lane 4c + q of a warp finds its four words (one per tile) together.

Codes ``[K, N]`` -> int32 ``[K / 16, 2 N]``, K a multiple of 16 and N of 64 (the kernel itself asks for 128 and 256).
Zero point 8: int4 codes are stored plus 8; uint4 codes are stored as they are, and mean code - 8::

    row    = 16 k + 8 h + 2 q + r            word column = 128 n + 16 c + 4 q + j
    column = 64 n + 16 j + 8 b + c           slot        = 4 r + 2 b + h

    bit 31                                                                          0
        [ r1b1h1 | r1b1h0 | r1b0h1 | r1b0h0 | r0b1h1 | r0b1h0 | r0b0h1 | r0b0h0 ]

In the lane's own order of eight (4 b + 2 h + r) the slots hold 0 2 4 6 1 3 5 7. Source: IST-DASLab/marlin at 2f6d7c1,
``marlin/__init__.py`` ``Layer.pack`` (read); AutoGPTQ 0.7.1's copy, ``qlinear_marlin.py``, run against ours.
"""

LAYOUTS = {v.name: v for v in (ONNX, TORCHAO, TORCHAO_TINYGEMM, GPTQ, GPTQ_ZEROS, GPTQ_V2_ZEROS, AWQ, MARLIN)}
"""Every layout by its name."""
