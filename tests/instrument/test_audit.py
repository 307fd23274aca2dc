"""Claim: what no site covers stops the run with an error that names it, unless the caller lets that module through."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.flex_attention import flex_attention
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch_modules import Calls, Ignoring, as_model, keep_float, visited

from samplers.ddim import DDIM
from samplers.errors import BadInput
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.audit import UncoveredContraction, contracts
from simulator.instrument.coverage import Done, cover
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.paired import Arm, run

pytestmark = pytest.mark.usefixtures("one_thread")

T = torch.zeros(2, dtype=torch.long)
MODES = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


@pytest.fixture(params=MODES)
def mode(request):
    with MODES[request.param]():
        yield


@torch.library.custom_op("qnoise_test::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    """A custom operator: nobody sees the matrix product inside."""
    return x @ (2 * torch.eye(x.shape[-1]))


class Recurrent(nn.Module):
    def __init__(self, kind) -> None:
        super().__init__()
        self.inner = kind(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = self.inner(x)
        while isinstance(result, tuple):
            result = result[0]
        return result


def cell(kind):
    return lambda: nn.Sequential(nn.Flatten(0, 1), Recurrent(kind))


def call(function):
    return lambda: Calls(function)


def square(x):
    return x @ x.transpose(1, 2) + torch.eye(3)


def scripted_square(x: torch.Tensor) -> torch.Tensor:
    return x @ x.transpose(1, 2)


def on_a_thread(x: torch.Tensor) -> torch.Tensor:
    found: list[torch.Tensor] = []
    thread = threading.Thread(target=lambda: found.append(F.linear(x, W)))
    thread.start()
    thread.join()
    return found[0]


POOL = ThreadPoolExecutor(1)
POOL.submit(int).result()  # its thread runs before any audit
W = torch.ones(4, 4)
UNCOVERED = {
    "LSTM": (lambda: Recurrent(nn.LSTM), "body.inner", "torch.lstm"),
    "GRU": (lambda: Recurrent(nn.GRU), "body.inner", "torch.gru"),
    "RNN": (lambda: Recurrent(nn.RNN), "body.inner", "torch.rnn_tanh"),
    "LSTMCell": (cell(nn.LSTMCell), "body.1.inner", "torch.lstm_cell"),
    "GRUCell": (cell(nn.GRUCell), "body.1.inner", "torch.gru_cell"),
    "RNNCell": (cell(nn.RNNCell), "body.1.inner", "torch.rnn_tanh_cell"),
    "cdist": (call(lambda x: torch.cdist(x, x)), "body", "torch.cdist"),
    "pdist": (call(lambda x: F.pdist(x[0])), "body", None),
    "fft": (call(lambda x: torch.fft.fft(x).real), "body", None),
    "rfft2": (call(lambda x: torch.fft.irfft2(torch.fft.rfft2(x))), "body", None),
    "stft": (call(lambda x: torch.stft(x.flatten(1), 4, window=torch.ones(4), return_complex=True).real), "body", None),
    "matrix_power": (call(lambda x: torch.linalg.matrix_power(square(x), 3)), "body", None),
    "matrix_exp": (call(lambda x: torch.linalg.matrix_exp(square(x))), "body", None),
    "inverse": (call(lambda x: torch.linalg.inv(square(x))), "body", None),
    "solve": (call(lambda x: torch.linalg.solve(square(x), x)), "body", None),
    "svd": (call(lambda x: torch.linalg.svdvals(x)), "body", None),
    "cholesky": (call(lambda x: torch.linalg.cholesky(square(x))), "body", None),
    "cov": (call(lambda x: torch.cov(x[0])), "body", None),
    "_addmm_activation": (call(lambda x: torch._addmm_activation(W[0], x[0], W)), "body", "aten::_addmm_activation"),
    "aten operator": (call(lambda x: torch.ops.aten.mm(x[0], W)), "body", "aten::mm"),
    "fused attention": (
        call(lambda x: torch._native_multi_head_attention(x, x, x, 4, 2, W.repeat(3, 1), torch.ones(12), W, W[0])[0]),
        "body", "torch._native_multi_head_attention",
    ),
    "custom operator": (call(lambda x: twice(x)), "body", "qnoise_test::twice"),
    "quantized operator": (
        call(lambda x: torch.ops.quantized.linear_dynamic(x, torch.ops.quantized.linear_prepack(
            torch.quantize_per_tensor(W, 0.1, 0, torch.qint8), None))),
        "body", None,
    ),
    "numpy": (call(lambda x: torch.from_numpy(x.numpy() @ W.numpy())), "body", "Tensor.numpy"),
    "numpy array": (call(lambda x: torch.from_numpy(__import__("numpy").asarray(x) @ W.numpy())), "body",
                    "Tensor.__array__"),
    "scripted": (lambda: torch.jit.script(nn.Linear(4, 4)), "body", "TorchScript graph"),
    "script inside": (lambda: nn.Sequential(nn.ReLU(), torch.jit.script(nn.Linear(4, 4))), "body.1",
                      "TorchScript graph"),
    "traced": (lambda: torch.jit.trace(nn.Linear(4, 4), torch.ones(2, 3, 4)), "body", "TorchScript graph"),
    "frozen": (lambda: torch.jit.freeze(torch.jit.script(nn.Linear(4, 4).eval())), "body", "TorchScript graph"),
    "thread": (call(lambda x: on_a_thread(x)), "body", "Thread.start"),
    "thread pool": (call(lambda x: POOL.submit(F.linear, x, W).result()), "body", "ThreadPoolExecutor.submit"),
    "script function": (lambda: Calls(torch.jit.script(scripted_square)), "body", None),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("form", UNCOVERED)
def test_forward__stops_at_what_no_site_covers_and_names_it(form, mode):
    make, path, operation = UNCOVERED[form]
    module, x = Ignoring(make()), torch.randn(2, 3, 4)
    with pytest.raises(UncoveredContraction) as caught:
        forward(module, keep_float, x, T)
    assert caught.value.module == path
    assert operation is None or caught.value.operation == operation
    assert caught.value.operation in str(caught.value)
    assert repr(path) in str(caught.value)


OPAQUE = (
    "custom operator",
    "quantized operator",
    "numpy",
    "numpy array",
    "scripted",
    "script inside",
    "traced",
    "frozen",
    "thread",
    "thread pool",
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("form", UNCOVERED)
@pytest.mark.parametrize("pattern", ["{}", "bod*"])
def test_allow_float__lets_a_module_run_as_it_is_and_records_it(form, pattern, mode):
    make, path, _ = UNCOVERED[form]
    module, x = Ignoring(make()), torch.randn(2, 3, 4)
    allowed = (pattern.format(path),)
    assert torch.allclose(forward(module, keep_float, x, T, allow_float=allowed), module(x, T), rtol=0, atol=1e-6)
    coverage = cover(module, x, T, allow_float=allowed)
    assert not coverage.complete
    assert coverage.macs == 0 or pattern == "{}"
    assert bool(coverage.unknown) == (form in OPAQUE)


def test_allow_float__names_only_what_it_names(mode):
    body = nn.Sequential(nn.Linear(4, 4), Recurrent(nn.GRU), nn.Linear(4, 4))
    module, x = Ignoring(body), torch.randn(2, 3, 4)
    for other in ("body.0", "body.1.inn", "gru", "body.1.inner.x"):
        with pytest.raises(UncoveredContraction, match=re.escape("'body.1.inner'")):
            forward(module, keep_float, x, T, allow_float=(other,))
    coverage = cover(module, x, T, allow_float=("body.1", "body.2:linear"))
    assert [(entry.site, entry.done) for entry in coverage.entries] == [
        ("body.0:linear", Done.HANDLED), ("body.1.inner:torch.gru", Done.FLOAT), ("body.2:linear", Done.FLOAT),
    ]  # fmt: skip


def test_allow_float__keeps_a_site_from_the_handler_and_out_of_quantization():
    class Rows(nn.GRU):
        def forward(self, x):
            return super().forward(x.flatten(1, 2))[0][:, None]

    body = nn.Sequential(nn.Linear(4, 6), Rows(6, 4, batch_first=True), nn.Linear(4, 4), nn.Linear(4, 4))
    model, allowed = as_model(Ignoring(body), (1, 2, 4)), ("body.1", "body.2")
    sampler = DDIM(model.schedule, 2)
    with pytest.raises(UncoveredContraction):
        calibrate_ranges(model, sampler, samples=2)
    ranges = calibrate_ranges(model, sampler, samples=2, allow_float=allowed)
    network = QuantizedModel(model, Scheme.parse("w8a8"), ranges, allow_float=allowed)
    assert [str(facts.key) for facts in network.sites] == ["body.0:linear", "body.3:linear"]
    dataset = run(Arm(network), sampler, samples=4)
    assert dataset.sizes["site"] == 2
    assert '"allow_float":["body.1","body.2"]' in dataset.attrs["config"]


def test_arms__allow_the_same_modules(tiny_model):
    from simulator.paired import run_arms

    sampler = DDIM(tiny_model.schedule, 2)
    ranges = calibrate_ranges(tiny_model, sampler, samples=2)
    arms = [Arm(QuantizedModel(tiny_model, Scheme.parse("w8a8"), ranges, allow_float=a)) for a in ((), ("first",))]
    with pytest.raises(BadInput, match="same modules"):
        run_arms(arms, sampler, samples=2)
    assert "allow_float" not in run(arms[0], sampler, samples=2).attrs["config"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.outer(x[0, 0], x[0, 1]), lambda x: torch.addr(x[0, :, :3], x[0, :, 0], x[0, :, 1]),
        lambda x: torch.kron(x[0], x[1]), lambda x: F.interpolate(x, scale_factor=2, mode="linear"),
        lambda x: F.normalize(x), lambda x: torch.cross(x[..., :3], x[..., 1:], dim=-1), lambda x: x.lgamma(),
        lambda x: F.avg_pool1d(x, 2), lambda x: F.layer_norm(x, (4,)), lambda x: torch.cummax(x, 1)[0],
        lambda x: F.grid_sample(x[None], torch.zeros(1, 2, 2, 2), align_corners=True), lambda x: F.glu(x),
        lambda x: x * x.tolist()[0][0][0],
        lambda x: F.embedding_bag(torch.tensor([[0, 1]]), x[0], mode="sum"), lambda x: x * x.sum().item(),
        lambda x: torch.fft.fftshift(x), lambda x: torch.diagonal(x, 0, 1, 2),
    ],
)  # fmt: skip
def test_audit__lets_elementwise_work_pass(function, mode):
    assert visited(Ignoring(Calls(function)), torch.rand(2, 3, 4)) == []


def test_contracts__judges_every_operator_whose_name_sounds_like_a_product():
    """The words are those of torch's own names; what they match and is none is listed by hand."""
    names = {n[6:].split(".")[0] for n in torch._C._dispatch_get_all_op_names() if n.startswith("aten::")}
    assert {"mm", "convolution", "_scaled_dot_product_flash_attention_for_cpu", "mkldnn_linear", "lstm"} <= names
    products = re.compile(
        r"(^|_)(mm|bmm|matmul|linear|attention|conv[1-3]d|convolution|addmm|rnn|lstm|gru|einsum)(_|$)"
    )
    silent = {name for name in names if products.search(name) and not contracts(name)}
    # layout changes of weights, and interpolation
    assert {n for n in silent if "backward" not in n and not n.startswith("upsample")} <= {
        "_cudnn_rnn_flatten_weight", "_use_cudnn_rnn_flatten_weight",
    }  # fmt: skip
    harmless = """add mul softmax _softmax native_layer_norm sum resolve_conj polygamma silu native_group_norm outer
        index_select _to_copy linalg_vector_norm max_pool2d"""
    assert not any(contracts(name) for name in harmless.split())


def test_forward__stops_even_where_the_network_catches_the_error(mode):
    def quiet(x):
        try:
            return torch.cdist(x, x)
        except RuntimeError:
            return x

    with pytest.raises(UncoveredContraction, match="cdist"):
        forward(Ignoring(Calls(quiet)), keep_float, torch.ones(2, 3, 4), T)


AUTOCAST = torch.autocast("cpu", torch.bfloat16)
REFUSED = {
    "vmap": (lambda x: torch.vmap(lambda row: row @ W)(x), "vmap"),
    "nested tensor": (lambda x: F.linear(torch.nested.nested_tensor([x[0], x[1, :2]]), W), "nested"),
    "vmap by keyword": (lambda x: torch.vmap(lambda row: F.linear(row, weight=W))(x), "vmap"),
    "tensor subclass": (lambda x: x @ TwoTensor(W, W), "TwoTensor"),
    "sparse operand": (lambda x: x[0].to_sparse() @ W, "sparse_coo"),
    "double": (lambda x: x.double() @ W.double(), "float64"),
    "integers": (lambda x: x.long() @ W.long(), "int64"),
    "complex layer": (lambda x: F.linear(x + 1j, W + 1j).real, "complex64"),
    "autocast": (AUTOCAST(lambda x: F.linear(x, W)), "autocast"),
    "other output dtype": (lambda x: torch.bmm(x, x.mT, out_dtype=torch.float32), "out_dtype"),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("form", REFUSED)
def test_forward__refuses_operands_that_it_cannot_emulate(form, mode):
    function, names = REFUSED[form]
    with pytest.raises(BadInput, match=names):
        forward(Ignoring(Calls(function)), keep_float, torch.randn(2, 3, 4), T)


def test_allow_float__lets_forms_run_that_are_not_emulated(mode):
    def drops(x):
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.0, is_causal=True).double() @ W.double()

    module, x = Ignoring(Calls(drops)), torch.randn(2, 3, 4)
    with pytest.raises(BadInput):
        forward(module, keep_float, x, T)
    assert torch.allclose(forward(module, keep_float, x, T, allow_float=("body",)), module(x, T), rtol=0, atol=1e-6)


def test_forward__leaves_the_threads_of_others_alone():
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit
    inside, done = threading.Event(), threading.Event()

    def meet(x):
        inside.set()
        assert done.wait(30)
        return x

    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(lambda: forward(Ignoring(Calls(meet)), keep_float, torch.ones(2, 4), T))
        assert inside.wait(30)
        assert torch.equal(on_a_thread(torch.ones(2, 4)), torch.full((2, 4), 4.0))  # while that pass is audited
        forward(Ignoring(nn.Linear(4, 4)), keep_float, torch.ones(2, 4), T)
        done.set()
        running.result()
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == (start, submit)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_forward__stops_at_a_higher_order_operator(mode):
    def flexible(x):
        x = x.repeat(1, 1, 4)[None]
        return flex_attention(x, x, x)

    with pytest.raises(UncoveredContraction, match="higher_order::flex_attention"):
        forward(Ignoring(Calls(flexible)), keep_float, torch.ones(2, 3, 4), T)


def test_audit__is_off_inside_a_site_and_back_after_it():
    inside: list[object] = []

    def handle(site, contraction):
        inside.append(_get_current_dispatch_mode())
        return keep_float(site, contraction)

    linear = nn.Linear(4, 4)
    forward(Ignoring(linear), handle, torch.randn(2, 4), T)
    assert inside == [None]
    module = Ignoring(Calls(lambda x: torch.linalg.inv(linear(x))))
    with pytest.raises(UncoveredContraction):
        forward(module, handle, torch.randn(4, 4), T)
    assert _get_current_dispatch_mode() is None
