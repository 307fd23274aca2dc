"""Claim: attention in every form is two named products around a softmax, with torch's float result."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch_modules import Calls, Ignoring, keep_float, visited

from samplers.errors import BadInput
from simulator.instrument.coverage import cover
from simulator.instrument.forward import forward

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:enable_nested_tensor is True"),
]

T = torch.zeros(2, dtype=torch.long)
MODES = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(7)
        yield


@pytest.fixture(params=MODES)
def mode(request):
    with MODES[request.param]():
        yield


def some(*shape: int) -> torch.Tensor:
    return torch.rand(shape) > 0.4


def seldom() -> torch.Tensor:
    """A mask whose second row sees no key."""
    mask = some(5, 7)
    mask[1] = False
    return mask


def floats(mask: torch.Tensor) -> torch.Tensor:
    return torch.zeros(mask.shape).masked_fill(~mask, -math.inf)


OPTIONS = {
    "plain": dict,
    "scale": lambda: {"scale": 0.3},
    "bool mask": lambda: {"attn_mask": some(5, 7) | (torch.arange(7) == 0)},
    "bool mask per head": lambda: {"attn_mask": some(2, 4, 5, 7)},
    "bool mask of keys": lambda: {"attn_mask": some(2, 1, 1, 7) | (torch.arange(7) == 3)},
    "float mask": lambda: {"attn_mask": torch.randn(5, 7)},
    "float mask, scale": lambda: {"attn_mask": torch.randn(2, 1, 5, 7), "scale": 2.0},
    "row without keys": lambda: {"attn_mask": seldom()},
    "row without keys, float": lambda: {"attn_mask": floats(seldom())},
    "causal": lambda: {"is_causal": True},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("heads", [4, 2, 1])
def test_attention__is_torchs(options, heads, mode):
    keywords = OPTIONS[options]()
    q, k, v = torch.randn(2, 4, 5, 6), torch.randn(2, heads, 7, 6), torch.randn(2, heads, 7, 3)
    if heads != 4:
        keywords["enable_gqa"] = True
    module = Ignoring(Calls(lambda x: F.scaled_dot_product_attention(query=x, key=k, value=v, **keywords)))
    got = forward(module, keep_float, q, T)
    with sdpa_kernel(SDPBackend.MATH):
        want = module(q, T)
    assert got.shape == want.shape
    assert torch.allclose(got, want, rtol=0, atol=2e-6)
    assert not got.isnan().any()
    coverage = cover(module, q, T)
    assert [(entry.site, entry.macs) for entry in coverage.entries] == [
        ("body:qk", 2 * 4 * 5 * 7 * 6), ("body:pv", 2 * 4 * 5 * 7 * 3),
    ]  # fmt: skip


@pytest.mark.parametrize("heads", [2, 4])
def test_attention__does_not_repeat_shared_keys(heads):
    q, k = torch.randn(2, 4, 5, 6), torch.randn(2, heads, 7, 6)
    module = Ignoring(Calls(lambda x: F.scaled_dot_product_attention(x, k, k, enable_gqa=True)))
    operands = [entry.operands for entry in cover(module, q, T).entries]
    assert math.prod(operands[0][1]) == k.numel()


def test_attention__refuses_what_it_does_not_emulate(mode):
    q = torch.zeros(2, 3, 4)
    masked = {"attn_mask": torch.ones(3, 3, dtype=torch.bool), "is_causal": True}
    for options in (masked, {"dropout_p": 0.1}):
        with pytest.raises(BadInput, match="scaled_dot_product_attention"):
            forward(
                Ignoring(Calls(lambda x, o=options: F.scaled_dot_product_attention(x, x, x, **o))), keep_float, q, T
            )


class Heads(nn.Module):
    """An nn.MultiheadAttention called as options say; its weights, if asked for, are added to the output's mean."""

    def __init__(self, options: dict, keywords: dict, source: torch.Tensor | None) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **options)
        self.keywords, self.source = keywords, source

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        key = value = x if self.source is None else self.source
        if self.attention.vdim != self.attention.kdim:
            value = torch.cat([value, value], -1)
        out, weights = self.attention(x, key, value, **self.keywords)
        return out if weights is None else torch.cat([out.flatten(), weights.flatten()])


PADDED = torch.tensor([[False] * 5, [False, False, True, False, True]])
SQUARE = ~torch.ones(5, 5, dtype=torch.bool).tril()
CASES = {
    "default": ({}, {}, None),
    "batch first": ({"batch_first": True}, {}, None),
    "no weights": ({"batch_first": True}, {"need_weights": False}, None),
    "weights per head": ({"batch_first": True}, {"average_attn_weights": False}, None),
    "key padding": ({"batch_first": True}, {"key_padding_mask": PADDED}, None),
    "key padding, no weights": ({"batch_first": True}, {"key_padding_mask": PADDED, "need_weights": False}, None),
    "mask": ({"batch_first": True}, {"attn_mask": SQUARE}, None),
    "float mask": ({"batch_first": True}, {"attn_mask": torch.linspace(-2, 2, 25).view(5, 5)}, None),
    "both masks": ({"batch_first": True}, {"attn_mask": SQUARE, "key_padding_mask": PADDED}, None),
    "causal": ({"batch_first": True}, {"attn_mask": SQUARE, "is_causal": True, "need_weights": False}, None),
    "bias of keys": ({"add_bias_kv": True, "batch_first": True}, {}, None),
    "zero key": ({"add_zero_attn": True, "batch_first": True}, {"key_padding_mask": PADDED}, None),
    "no bias": ({"bias": False, "batch_first": True}, {}, None),
    "cross": ({"batch_first": True}, {}, (2, 7, 8)),
    "other sizes": ({"batch_first": True, "kdim": 6, "vdim": 12}, {"need_weights": False}, (2, 7, 6)),
}


@pytest.mark.parametrize("case", CASES)
def test_multi_head_attention__has_the_bits_of_torchs_slow_path(case, mode):
    options, keywords, source = CASES[case]
    module = Ignoring(Heads(options, keywords, None if source is None else torch.randn(source))).eval()
    x = torch.randn(2, 5, 8) if options.get("batch_first") else torch.randn(5, 2, 8)
    got = forward(module, keep_float, x, T)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        slow = module(x, T)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    fast = module(x, T)
    asks_weights = keywords.get("need_weights", True)
    assert torch.equal(got, slow) or (not asks_weights and torch.allclose(got, slow, rtol=0, atol=2e-6))
    assert torch.allclose(got, fast, rtol=0, atol=2e-6)
    names = [name.removeprefix("body.attention:").split("#")[0] for name in visited(module, x)]
    inputs = {"default": 1, "cross": 2, "other sizes": 3}.get(case, 1)
    assert names == ["linear"] * inputs + ["qk", "pv"] + ["linear"]


def test_multi_head_attention__counts_its_multiply_accumulates():
    module = Ignoring(Heads({"batch_first": True}, {}, None)).eval()
    macs = [entry.macs for entry in cover(module, torch.randn(2, 5, 8), T).entries]
    assert macs == [2 * 5 * 8 * 24, 2 * 2 * 5 * 5 * 4, 2 * 2 * 5 * 5 * 4, 2 * 5 * 8 * 8]


def test_multi_head_attention__leaves_a_row_without_keys_as_torch_does(mode):
    mask = torch.ones(2, 5, dtype=torch.bool)
    module = Ignoring(Heads({"batch_first": True}, {"key_padding_mask": mask, "need_weights": False}, None)).eval()
    x = torch.randn(2, 5, 8)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        want = module(x, T)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert torch.allclose(forward(module, keep_float, x, T), want, rtol=0, atol=2e-6, equal_nan=True)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer__is_its_fused_form(norm_first, activation, mode):
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True, norm_first=norm_first).eval()
    module, x = Ignoring(layer), torch.randn(2, 5, 8)
    got = forward(module, keep_float, x, T)
    assert torch.allclose(got, module(x, T), rtol=0, atol=2e-6)
    assert visited(module, x) == [
        "body.self_attn:linear", "body.self_attn:qk", "body.self_attn:pv", "body.self_attn:linear#1",
        "body.linear1:linear", "body.linear2:linear",
    ]  # fmt: skip


@pytest.mark.parametrize("nested", [False, True])
def test_encoder__equals_its_nested_form_where_tokens_are_not_padded(nested, mode):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested).eval()
    padded = torch.tensor([[False] * 5, [False, False, False, True, True]])
    module, x = Ignoring(Calls(lambda x: encoder(x, src_key_padding_mask=padded))), torch.randn(2, 5, 8)
    got, want = forward(module, keep_float, x, T), module(x, T)
    assert torch.allclose(got[~padded], want[~padded], rtol=0, atol=2e-6)
    assert len(visited(module, x)) == 12


@pytest.mark.parametrize("batch_first", [True, False])
def test_transformer__of_encoder_and_decoder_is_torchs(batch_first, mode):
    whole = nn.Transformer(8, 2, 2, 2, 16, batch_first=batch_first).eval()
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    module, x = (
        Ignoring(Calls(lambda x: whole(x, x, tgt_mask=causal[: x.shape[batch_first]], tgt_is_causal=True))),
        None,
    )
    x = torch.randn(2, 5, 8) if batch_first else torch.randn(5, 2, 8)
    got = forward(module, keep_float, x, T)
    assert torch.allclose(got, module(x, T), rtol=0, atol=5e-6)
    assert len(visited(module, x)) == 2 * 6 + 2 * (4 + 5 + 2)
