"""Claim: a model is named by its spelling alone, a user's own is checked and told apart by its weights."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

import simulator
from samplers.errors import BadInput
from simulator.models import load
from simulator.models.digest import files_digest, module_digest, tensors_digest

SOURCE = """
import torch
from torch import nn
from samplers.schedule import NoiseSchedule
from simulator import Condition, Model

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)
        self.register_buffer("table", torch.arange(3.0), persistent=False)
    def forward(self, x, timestep):
        return self.layer(x)

def network():
    module = Network()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.linspace(-1, 1, p.numel()).reshape(p.shape))
    return module

def factory(**changes):
    given = dict(name="mine", version=1, module=network(), schedule=NoiseSchedule(), sample_shape=(1, 8, 8),
                 prediction_type="epsilon", weights_digest="")
    return Model(**{**given, **changes})

def with_digest(): return factory(weights_digest="abc")
def no_model(): return network()
def none(): return None
def fails(): raise KeyError("weights.pt")
def needs(argument): return argument
def bad_name(): return factory(name="a/b")
def bad_version(): return factory(version=0)
def bad_module(): return factory(module=lambda x, t: x)
def bad_schedule(): return factory(schedule="linear")
def bad_shape(): return factory(sample_shape=[1, 8, 8])
def bad_digest(): return factory(weights_digest=None)
def typed():
    from samplers.errors import BadInput
    raise BadInput("my own rule", got=1, fix="mend")
class Holder:
    @staticmethod
    def factory(): return factory()
VALUE = factory()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a module with factories, which only these tests can import."""
    (tmp_path / "own_models.py").write_text(SOURCE)
    (tmp_path / "broken_models.py").write_text("import a_package_that_is_missing")
    (tmp_path / "unreadable_models.py").write_text("def factory(:")
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_models"
    for name in ("own_models", "broken_models", "unreadable_models"):
        sys.modules.pop(name, None)


def test_factory__gives_a_network_in_eval_mode_with_the_digest_of_its_weights(own):
    model = load(f"{own}:factory")
    assert (model.name, model.version, model.sample_shape) == ("mine", 1, (1, 8, 8))
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())
    assert model.weights_digest == module_digest(model.module) != ""
    assert len(model.weights_digest) == 64
    assert load(f"{own}:Holder.factory").weights_digest == model.weights_digest


def test_factory__keeps_a_digest_that_it_gave(own):
    assert load(f"{own}:with_digest").weights_digest == "abc"


def test_load__changes_no_path(own):
    before = list(sys.path)
    load(f"{own}:factory")
    assert sys.path == before


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("own_models:no_model", "must return a simulator.Model, got Network from own_models:no_model"),
        ("own_models:none", "got NoneType"),
        ("own_models:fails", "KeyError: 'weights.pt'"),
        ("own_models:needs", "without arguments"),
        ("own_models:missing", "AttributeError"),
        ("own_models:VALUE", "a Model; name a function"),
        ("own_models:", "module:factory"),
        (":factory", "module:factory"),
        ("missing_models:factory", "ModuleNotFoundError"),
        ("broken_models:factory", "a_package_that_is_missing"),
        ("unreadable_models:factory", "SyntaxError"),
        ("own_models:bad_name", "name must be letters"),
        ("own_models:bad_version", "version must be"),
        ("own_models:bad_module", "module must be a torch.nn.Module"),
        ("own_models:bad_schedule", "schedule must be"),
        ("own_models:bad_shape", "sample_shape must be"),
        ("own_models:bad_digest", "weights_digest must be"),
        ("own_models:typed", "my own rule"),
    ],
)
def test_factory__that_gives_no_model_is_one_readable_error(own, source, says):
    with pytest.raises(BadInput) as caught:
        load(source)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load__takes_a_slash_for_a_folder_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "digits-unet").mkdir()
    assert load("digits-unet").name == "digits-unet"
    with pytest.raises(BadInput, match=r"written as a path, got 'checkpoint'; write \./checkpoint"):
        load("checkpoint")
    pytest.importorskip("diffusers")
    for source in ("./checkpoint", "checkpoint/", tmp_path / "checkpoint", "./digits-unet", "../a:b/c"):
        with pytest.raises(BadInput, match="checkpoint"):
            load(source)


def test_load__is_one_function_wherever_it_is_exported():
    assert simulator.load is load


# Digests


def test_module_digest__sees_parameters_and_buffers_that_checkpoints_leave_out(own):
    module = load(f"{own}:factory").module
    first = module_digest(module)
    module.table[0] = 1.0
    second = module_digest(module)
    module.layer.bias[0] += 1
    assert len({first, second, module_digest(module)}) == 3


def test_module_digest__does_not_see_the_memory_format():
    module = nn.Conv2d(3, 4, 3)
    before = module_digest(module)
    module.to(memory_format=torch.channels_last)
    assert not module.weight.is_contiguous()
    assert module_digest(module) == before


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.zeros(2, 3), "b": torch.ones(1)}, {"a": torch.zeros(6), "c": torch.ones(1)},
        {"a": torch.zeros(6), "b": torch.ones(1).double()}, {"a": -torch.zeros(6), "b": torch.ones(1)},
        {"a": torch.zeros(6)}, {"a": torch.zeros(6), "b": torch.tensor(1.0)},
    ],
)  # fmt: skip
def test_tensors_digest__tells_shape_name_dtype_and_sign_apart(other):
    assert tensors_digest(other) != tensors_digest({"a": torch.zeros(6), "b": torch.ones(1)})


def test_tensors_digest__does_not_depend_on_order():
    a, b = torch.zeros(2), torch.ones(3)
    assert tensors_digest({"a": a, "b": b}) == tensors_digest({"b": b, "a": a})


def test_files_digest__reads_files_in_order_of_their_names(tmp_path):
    (tmp_path / "b").write_bytes(b"second")
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "whole").write_bytes(b"firstsecond")
    assert files_digest((tmp_path / "b", tmp_path / "a")) == files_digest((tmp_path / "whole",))
