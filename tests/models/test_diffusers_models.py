"""Claim: a diffusers checkpoint saved and loaded back is the same network to the bit, with every contraction at a site.

The networks are tiny, random and made on the spot.
"""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

import diffusers
from aten_macs import aten_macs
from families import FAMILIES, make, ramp

import simulator
from samplers.coefficients import Update
from samplers.ddim import DDIM
from samplers.ddpm import DDPM
from samplers.dpm_solver import DPMSolver
from samplers.errors import BadInput
from samplers.schedule import NoiseSchedule
from samplers.state import Float64State
from simulator.calibration.collector import Collector
from simulator.correction import NoCorrection
from simulator.instrument.coverage import cover
from simulator.instrument.forward import forward
from simulator.models.conditioning import Conditioning
from simulator.models.diffusers import load, load_sampler

pytestmark = pytest.mark.usefixtures("one_thread")

T = torch.tensor([3, 7])
MASK = torch.tensor([[1, 1, 1, 0, 0]]).expand(2, 5)

NETWORKS = {
    "UNet2DModel": ("UNet2DModel", None, {}),
    "UNet2DConditionModel": ("UNet2DConditionModel", None, {"encoder_hidden_states": ramp(2, 5, 12)}),
    "DiT": ("DiTTransformer2DModel", None, {"class_labels": torch.arange(2)}),
    "PixArt": (
        "PixArtTransformer2DModel", None, {"encoder_hidden_states": ramp(2, 5, 7), "encoder_attention_mask": MASK},
    ),
    "SD3": (
        "SD3Transformer2DModel", None, {"encoder_hidden_states": ramp(2, 5, 9), "pooled_projections": ramp(2, 7)},
    ),
    "Flux": (
        "FluxTransformer2DModel", 4,
        {
            "encoder_hidden_states": ramp(2, 5, 9), "pooled_projections": ramp(2, 7),
            "guidance": torch.full((2,), 3.5),
        },
    ),
}  # fmt: skip
"""By the name of the helpers' family: class, sample_size, conditions of two samples."""


@pytest.fixture(scope="module", params=NETWORKS)
def saved(request, tmp_path_factory):
    """A family's network, and what was loaded from where it was saved."""
    name = request.param
    folder = tmp_path_factory.mktemp("checkpoints") / name
    module = make(name)
    module.save_pretrained(folder)
    return name, module, load(folder, sample_size=NETWORKS[name][1])


def sample(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(5))


def image_ids(side: int) -> torch.Tensor:
    return torch.tensor([[0.0, row, column] for row in range(side) for column in range(side)])


def direct(name: str, module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The network called as its pipeline calls it."""
    if name == "Flux":  # the helpers' family puts every token at one place
        text, pooled, guidance = NETWORKS[name][2].values()
        return module(
            hidden_states=x, encoder_hidden_states=text, pooled_projections=pooled, timestep=T / 1000,
            img_ids=image_ids(4), txt_ids=torch.zeros(5, 3), guidance=guidance,
        ).sample  # fmt: skip
    return FAMILIES[name].call(module, x, T)[:, : x.shape[1]]


def call_of(name: str, model: simulator.Model):
    conditions = NETWORKS[name][2]
    return Conditioning(conditions).of(model, range(2)) if conditions else model.call


@torch.no_grad()
def test_load__gives_the_network_that_was_saved_to_the_bit(saved):
    name, module, model = saved
    assert model.sample_shape == FAMILIES[name].shape
    assert type(model.module).__name__ == NETWORKS[name][0]
    assert model.name.startswith(NETWORKS[name][0] + "-")
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())
    x = sample(model.sample_shape)
    want, got = direct(name, module, x), call_of(name, model)(model.module, x, T)
    assert torch.equal(got, want)
    assert want.std() > 0


def test_load__leaves_no_contraction_outside_a_site(saved):
    name, module, model = saved
    x, call = sample(model.sample_shape), call_of(name, model)
    coverage = cover(model.module, x, T, call=call)
    assert coverage.complete
    assert len(coverage.entries) == FAMILIES[name].sites
    assert coverage.macs == aten_macs(module, x, T, call=lambda module, x, t: direct(name, module, x)) > 0


def test_loaded__network_runs_in_integers(saved):
    name, _, model = saved
    x, conditions = sample(model.sample_shape), NETWORKS[name][2]
    conditioning = Conditioning(conditions) if conditions else None
    observer = Collector()
    for point in (x, torch.zeros_like(x)):
        forward(model.module, observer, point, T, call=call_of(name, model))
    network = simulator.QuantizedModel(
        model, simulator.Scheme.parse("w8a8"), observer.ranges({}), conditioning=conditioning
    )
    want, got = direct(name, model.module, x), network(x, T)
    assert 0 < (got - want).square().mean() < 0.05 * want.square().mean()
    assert network.coverage(x, T).complete
    assert [facts.edge for facts in network.sites].count(True) == 2


def test_loaded__network_says_which_conditions_it_takes(saved):
    name, _, model = saved
    known = {condition.name for condition in model.conditions}
    assert set(NETWORKS[name][2]) <= known
    x = sample(model.sample_shape)
    if not known:
        assert model.call(model.module, x, T).shape == x.shape
    elif name == "DiT":
        none = Conditioning({"class_labels": torch.tensor([10])}).of(model, range(2))
        assert torch.equal(model.call(model.module, x, T), none(model.module, x, T))
        assert not torch.equal(none(model.module, x, T), call_of(name, model)(model.module, x, T))
    else:
        with pytest.raises(BadInput, match="must be given encoder_hidden_states, got no conditions"):
            simulator.survey(model)


def test_load__moves_no_global_state(tmp_path):
    make("DiT").save_pretrained(tmp_path)
    torch.manual_seed(3)
    want = torch.rand(4)
    torch.manual_seed(3)
    before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    load(tmp_path)
    assert (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()) == before
    assert torch.equal(torch.rand(4), want)


def test_load__opens_no_connection(tmp_path, monkeypatch):
    make("UNet2DModel").save_pretrained(tmp_path / "unet")
    pipeline(tmp_path, "UNet2DModel", diffusers.DDPMScheduler())
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("connected"))
    monkeypatch.setattr("socket.getaddrinfo", lambda *a, **k: pytest.fail("resolved a name"))
    load(tmp_path)


def test_load__joins_shards(tmp_path):
    module = make("SD3")
    module.save_pretrained(tmp_path / "whole")
    module.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    shards = list((tmp_path / "shards").glob("*.safetensors"))
    assert len(shards) > 2
    whole, joined = load(tmp_path / "whole"), load(tmp_path / "shards")
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(joined.module.state_dict()[name], tensor), name
    shards[0].unlink()
    with pytest.raises(BadInput, match=f"every shard of the index must be there, got .*{shards[0].name}"):
        load(tmp_path / "shards")


def test_load__takes_names_of_attention_layers_from_before_they_changed(tmp_path):
    from safetensors.torch import load_file, save_file

    module = make("UNet2DModel")
    module.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, tensor in load_file(file).items():
        for current, before in old.items():
            name = name.replace(f".{current}.", f".{before}.")
        state[name] = tensor
    assert any(".query." in name for name in state)
    save_file(state, file)
    x = sample((3, 8, 8))
    model = load(tmp_path)
    assert torch.equal(model.call(model.module, x, T), module(x, T).sample)


def test_load__takes_the_class_that_dit_was_first_saved_as(tmp_path):
    make("DiT").save_pretrained(tmp_path)
    edit(tmp_path / "config.json", _class_name="Transformer2DModel")
    assert type(load(tmp_path).module).__name__ == "DiTTransformer2DModel"


def test_name__tells_checkpoints_apart_that_differ_in_anything_that_counts(tmp_path):
    make("UNet2DModel").save_pretrained(tmp_path / "unet")
    pipeline(tmp_path, "UNet2DModel", diffusers.DDPMScheduler())
    first = load(tmp_path)
    assert load(tmp_path).name == first.name
    names = {first.name, load(tmp_path, sample_size=16).name, load(tmp_path / "unet").name}
    edit(tmp_path / "unet" / "config.json", freq_shift=1)
    changed = load(tmp_path)
    assert changed.weights_digest == first.weights_digest
    pipeline(tmp_path, "UNet2DModel", diffusers.DDPMScheduler(beta_end=0.03))
    assert len({*names, changed.name, load(tmp_path).name}) == 5


def test_weights_digest__is_that_of_the_file(tmp_path):
    import hashlib

    make("UNet2DModel").save_pretrained(tmp_path)
    content = (tmp_path / "diffusion_pytorch_model.safetensors").read_bytes()
    assert load(tmp_path).weights_digest == hashlib.sha256(content).hexdigest()


# Forms of the same classes


def small_unet(kind: str, **options) -> torch.nn.Module:
    """Without gradients, as loaded: torch's linear layers have other last bits for weights that take one."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return getattr(diffusers, kind)(
            sample_size=8, layers_per_block=1, block_out_channels=(8,), norm_num_groups=4, attention_head_dim=4,
            **options,
        ).eval().requires_grad_(False)  # fmt: skip


def test_load__knows_the_labels_of_a_class_conditional_unet(tmp_path):
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    module = small_unet("UNet2DModel", num_class_embeds=4, **blocks)
    module.save_pretrained(tmp_path)
    model = load(tmp_path)
    assert model.classes == 4
    x, labels = sample(model.sample_shape), torch.tensor([3, 1])
    with torch.no_grad():
        want = module(x, T, labels).sample
    assert torch.equal(Conditioning({"class_labels": labels}).of(model, range(2))(model.module, x, T), want)
    with pytest.raises(BadInput, match="must be given class_labels"):
        simulator.survey(model)
    with pytest.raises(BadInput, match="0 to 3, got"):
        Conditioning({"class_labels": torch.tensor([4])}).of(model, range(2))
    with pytest.raises(BadInput, match="no null for class_labels"):
        Conditioning({"class_labels": labels}, weight=2.0).of(model, range(2))


def test_load__gives_a_text_unet_its_pooled_text_and_sizes(tmp_path):
    module = small_unet(
        "UNet2DConditionModel", cross_attention_dim=12, addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=5 + 6 * 4, down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",), mid_block_type=None,
    )  # fmt: skip
    module.save_pretrained(tmp_path)
    model = load(tmp_path)
    text, pooled, sizes = ramp(2, 5, 12), ramp(2, 5), torch.tensor([[8.0, 8, 0, 0, 8, 8]])
    null = {"encoder_hidden_states": 0 * text[0], "text_embeds": 0 * pooled[0], "time_ids": sizes}
    given = {"encoder_hidden_states": text, "text_embeds": pooled, "time_ids": sizes}
    x = sample(model.sample_shape)

    def direct(text, pooled):
        added = {"text_embeds": pooled, "time_ids": sizes.expand(len(text), -1)}
        rows = len(text) // 2
        with torch.no_grad():
            return module(torch.cat([x] * rows), torch.cat([T] * rows), text, added_cond_kwargs=added).sample

    got = Conditioning(given).of(model, range(2))(model.module, x, T)
    assert torch.equal(got, direct(text, pooled))
    without, with_text = direct(torch.cat([0 * text, text]), torch.cat([0 * pooled, pooled])).chunk(2)
    got = Conditioning(given, null, 5.0).of(model, range(2))(model.module, x, T)
    assert torch.equal(got, without + 5.0 * (with_text - without))
    with pytest.raises(BadInput, match="must be given text_embeds"):
        Conditioning({"encoder_hidden_states": text}).of(model, range(2))(model.module, x, T)


def test_load__gives_pixart_its_sizes(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = diffusers.PixArtTransformer2DModel(
            num_attention_heads=2, attention_head_dim=6, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
            norm_num_groups=2, cross_attention_dim=12, caption_channels=7, use_additional_conditions=True,
        ).eval()  # fmt: skip
    module.save_pretrained(tmp_path)
    model = load(tmp_path)
    sizes = {"resolution": torch.tensor([[64.0, 64.0]]), "aspect_ratio": torch.tensor([[1.0]])}
    text, x = ramp(2, 5, 7), sample(model.sample_shape)
    with torch.no_grad():
        each = {name: rows.expand(2, -1) for name, rows in sizes.items()}
        want = module(x, text, timestep=T, added_cond_kwargs=each).sample[:, :4]
    got = Conditioning({"encoder_hidden_states": text, **sizes}).of(model, range(2))(model.module, x, T)
    assert torch.equal(got, want)


@pytest.mark.parametrize("change", [{"addition_embed_type": "image"}, {"encoder_hid_dim_type": "ip_image_proj"}])
def test_load__refuses_conditions_on_images(tmp_path, change):
    from simulator.models.diffusers_networks import FAMILIES as KNOWN

    config = dict(make("UNet2DConditionModel").config)
    KNOWN["UNet2DConditionModel"].check(config, tmp_path)
    with pytest.raises(BadInput, match=next(iter(change))):
        KNOWN["UNet2DConditionModel"].check({**config, **change}, tmp_path)


# Pipelines and schedulers


def pipeline(folder, kind: str, scheduler, place: str = "unet") -> None:
    """Write what a pipeline's folder has beside its network."""
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DDPMPipeline", place: ["diffusers", kind], "vae": [None, None],
        "scheduler": ["diffusers", type(scheduler).__name__],
    }  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))


def edit(path, **entries) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    make("UNet2DModel").save_pretrained(folder / "unet")
    return folder


@pytest.mark.parametrize(
    ("scheduler", "prediction_type"),
    [
        (diffusers.DDPMScheduler(), "epsilon"),
        (diffusers.DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012), "epsilon"),
        (diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"), "v_prediction"),
        (diffusers.EulerDiscreteScheduler(num_train_timesteps=77, prediction_type="sample"), "sample"),
        (diffusers.DPMSolverMultistepScheduler(), "epsilon"),
        (diffusers.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"), "v_prediction"),
        (diffusers.DDPMScheduler(num_train_timesteps=3, trained_betas=[0.1, 0.3, 0.2]), "epsilon"),
        (diffusers.DDPMScheduler(3, trained_betas=[0.1, 0.3, 0.2], beta_schedule="sigmoid"), "epsilon"),
    ],
)
def test_pipeline__has_the_schedulers_alphas_cumprod_and_prediction_type(unet, scheduler, prediction_type):
    pipeline(unet, "UNet2DModel", scheduler)
    model = load(unet)
    single = dataclasses.replace(model.schedule, tables="float32")
    assert torch.equal(torch.from_numpy(single.alphas_cumprod.copy()), scheduler.alphas_cumprod)
    assert model.schedule.tables == "float64"
    assert model.prediction_type == prediction_type


def test_pipeline__of_a_sigma_scheduler_has_the_schedule_that_ends_at_zero(unet):
    pipeline(unet, "UNet2DModel", diffusers.EulerDiscreteScheduler(rescale_betas_zero_snr=True))
    assert load(unet).schedule == NoiseSchedule(rescale_betas_zero_snr=True)


def test_load_sampler__is_the_pipelines_scheduler(unet):
    pipeline(unet, "UNet2DModel", diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True))
    assert load_sampler(unet, 12) == DPMSolver(NoiseSchedule(), 12, use_karras_sigmas=True)
    with pytest.raises(BadInput, match="must hold its scheduler"):
        load_sampler(unet / "unet", 12)


class LessNoise(NoCorrection):
    """Takes a variance out of the noise that each element gets."""

    def __init__(self, variance: float) -> None:
        self.variance, self.name = variance, f"less-noise-{variance}"

    def update(self, step: int, update: Update) -> Update:
        return update.less_noise(self.variance)


@torch.no_grad()
def test_learned_variance__of_a_dit_steers_each_elements_noise(tmp_path):
    make("DiT").save_pretrained(tmp_path / "transformer")
    pipeline(tmp_path, "DiTTransformer2DModel", diffusers.DDPMScheduler(), "transformer")
    model, mean = load(tmp_path, variance=True), load(tmp_path)
    assert model.name != mean.name
    labels = Conditioning({"class_labels": torch.tensor([3])})
    x = sample(model.sample_shape)
    output = labels.of(model, range(2))(model.module, x, T)
    assert torch.equal(output[:, : x.shape[1]], labels.of(mean, range(2))(mean.module, x, T))
    sampler = DDPM(model.schedule, 3, "learned_range")
    fixed = [dataclasses.replace(sampler, variance_type=kind).updates[0].c for kind in ("fixed_small", "fixed_large")]
    update = sampler.updates[0]
    sigma = sampler.predict(Float64State(), update, x.double(), output.double()).sigma
    log = (output[:, x.shape[1] :].double() + 1) / 2
    wanted = torch.exp(log * math.log(fixed[1]) + (1 - log) * math.log(fixed[0]))
    torch.testing.assert_close(sigma, wanted)
    ranges = simulator.calibrate_ranges(model, sampler, samples=2, conditioning=labels)
    network = simulator.QuantizedModel(model, simulator.Scheme.parse("w4a8"), ranges, conditioning=labels)
    found = simulator.run(simulator.Arm(network), sampler, samples=2)
    assert np.isnan(found.c.values[:-1]).all()
    assert found.c.values[-1] == 0
    assert (found.epsilon_accumulated.sel(moment="ee") > 0).all()
    quiet, still = (
        simulator.run(simulator.Arm(network, LessNoise(taken)), sampler, samples=2) for taken in (1e-3, 10.0)
    )
    assert not np.array_equal(quiet.sample_quantized, found.sample_quantized)
    assert not np.array_equal(still.sample_quantized, quiet.sample_quantized)
    with pytest.raises(BadInput, match="ddim takes no variance from the network"):
        simulator.calibrate_ranges(model, DDIM(model.schedule, 3), samples=2, conditioning=labels)
    plain = simulator.QuantizedModel(mean, simulator.Scheme.parse("w4a8"), ranges, conditioning=labels)
    with pytest.raises(BadInput, match="a learned variance needs a network of twice the sample's channels"):
        simulator.run(simulator.Arm(plain), sampler, samples=2)


@torch.no_grad()
def test_learned_variance__is_the_conditional_ones_under_guidance(tmp_path):
    make("DiT").save_pretrained(tmp_path)
    model = load(tmp_path, variance=True)
    x, channels = sample(model.sample_shape), model.sample_shape[0]

    def output(weight: float) -> torch.Tensor:
        labels = {"class_labels": torch.tensor([3])}
        return Conditioning(labels, weight=weight).of(model, range(2))(model.module, x, T)

    guided, conditional, unconditional = output(2.5), output(1.0), output(0.0)
    torch.testing.assert_close(guided[:, channels:], conditional[:, channels:])
    wanted = unconditional + 2.5 * (conditional - unconditional)
    torch.testing.assert_close(guided[:, :channels], wanted[:, :channels], rtol=1e-4, atol=1e-5)


def test_load__refuses_a_variance_that_the_network_does_not_predict(unet):
    with pytest.raises(BadInput, match="must predict a variance"):
        load(unet / "unet", variance=True)


def test_pipeline__can_be_sampled_from_its_folder(unet):
    pipeline(unet, "UNet2DModel", diffusers.DDPMScheduler())
    model = simulator.load(f"{unet}/")
    sampler = DDIM(model.schedule, 3)
    ranges = simulator.calibrate_ranges(model, sampler, samples=4)
    found = simulator.run(
        simulator.Arm(simulator.QuantizedModel(model, simulator.Scheme.parse("w8a8"), ranges)), sampler, samples=2
    )
    assert found.attrs["key"]
    assert found.model.item() == f"{model.name}@1"


@pytest.mark.parametrize("own", ["no scheduler", "flow matching", "flow sigmas"])
def test_model__without_alphas_cumprod_runs_single_passes_and_is_not_sampled(unet, own):
    if own == "no scheduler":
        model = load(unet / "unet")
    elif own == "flow matching":
        pipeline(unet, "UNet2DModel", diffusers.FlowMatchEulerDiscreteScheduler())
        model = load(unet)
    else:
        pipeline(unet, "UNet2DModel", diffusers.DDPMScheduler())
        scheduler = {"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}
        (unet / "scheduler" / "scheduler_config.json").write_text(
            json.dumps({**scheduler, "prediction_type": "flow_prediction"})
        )
        model = load(unet)
    assert model.schedule is None
    assert model.prediction_type == ("unknown" if own == "no scheduler" else "flow_prediction")
    x = sample(model.sample_shape)
    observer = Collector()
    forward(model.module, observer, x, T, call=model.call)
    network = simulator.QuantizedModel(model, simulator.Scheme.parse("w8a8"), observer.ranges({}))
    assert network(x, T).shape == x.shape
    sampler = DDIM(NoiseSchedule(), 2)
    for refused in (
        lambda: DDIM(model.schedule, 2),
        lambda: simulator.calibrate_ranges(model, sampler, samples=2),
        lambda: simulator.run(simulator.Arm(network), sampler, samples=2),
    ):
        with pytest.raises(BadInput, match="needs a noise schedule"):
            refused()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"snr_shift_scale": 3.0, "_class_name": "CogVideoXDDIMScheduler"}, "follow from the betas alone"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule must be one of"),
        ({"prediction_type": "noise"}, "prediction_type must be one of"),
        ({"_class_name": "UNet2DModel"}, "scheduler must be one of diffusers"),
        ({"_class_name": "os"}, "scheduler must be one of diffusers"),
        ({"beta_start": -1}, "betas"),
        ({"num_train_timesteps": "many"}, "configuration must be valid"),
    ],
)
def test_pipeline__with_a_scheduler_that_cannot_be_had_is_refused(unet, change, says):
    pipeline(unet, "UNet2DModel", diffusers.DDPMScheduler())
    edit(unet / "scheduler" / "scheduler_config.json", **change)
    with pytest.raises(BadInput, match=says):
        load(unet)


# Refusals


@pytest.fixture
def folder(tmp_path):
    make("UNet2DModel").save_pretrained(tmp_path)
    return tmp_path


def test_load__refuses_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(BadInput, match="folder that exists"):
        load(tmp_path / "missing")


def test_load__refuses_a_folder_without_a_config(folder):
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match=r"must hold config\.json"):
        load(folder)


@pytest.mark.parametrize("suffix", ["bin", "pt", "ckpt"])
def test_load__never_reads_a_pickle(folder, suffix):
    file = folder / "diffusion_pytorch_model.safetensors"
    file.rename(folder / f"diffusion_pytorch_model.{suffix}")
    with pytest.raises(BadInput, match="pickle is never read"):
        load(folder)


def test_load__refuses_a_folder_without_weights(folder):
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadInput, match="no weights"):
        load(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_load__refuses_other_weights_than_float32_and_says_how_to_convert_them(tmp_path, dtype):
    make("UNet2DModel").to(dtype).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match=r"must be float32.*UNet2DModel\.from_pretrained.*save_pretrained"):
        load(tmp_path)


def test_load__refuses_a_variant_alone(tmp_path):
    make("UNet2DModel").half().save_pretrained(tmp_path, variant="fp16")
    with pytest.raises(BadInput, match=r"fp16\.safetensors.*without a variant"):
        load(tmp_path)


def test_load__names_the_classes_it_knows(folder):
    edit(folder / "config.json", _class_name="AutoencoderKL")
    with pytest.raises(BadInput, match=r"one of UNet2DModel, .*FluxTransformer2DModel, got 'AutoencoderKL'"):
        load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"block_out_channels": [8, 32]}, {"layers_per_block": 2}, {"down_block_types": ["os.system"]},
        {"out_channels": "three"},
    ],
)  # fmt: skip
def test_load__refuses_a_config_of_other_weights(folder, change):
    edit(folder / "config.json", **change)
    with pytest.raises(BadInput, match="must be those of the configuration"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 7, -1])
def test_load__refuses_truncated_weights(folder, keep):
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BadInput, match="whole safetensors file"):
        load(folder)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_load__refuses_a_broken_config(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(BadInput, match="JSON must be"):
        load(folder)


def test_load__refuses_weights_quantized_before(folder):
    edit(folder / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(BadInput, match="quantized already"):
        load(folder)


def test_load__never_runs_code_of_a_checkpoint(unet):
    (unet / "mine.py").write_text("raise SystemExit('ran')")
    index = {"_class_name": "DDPMPipeline", "unet": ["mine", "Network"]}
    (unet / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match="never run"):
        load(unet)


def test_load__refuses_an_inpainting_network(tmp_path):
    with torch.random.fork_rng():
        module = diffusers.UNet2DModel(
            sample_size=8, in_channels=9, out_channels=4, layers_per_block=1, block_out_channels=(8,),
            norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        )  # fmt: skip
    module.save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="4 channels from 9"):
        load(tmp_path)


def test_load__asks_for_a_size_where_a_network_has_none(tmp_path):
    make("Flux").save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="sample_size"):
        load(tmp_path)
    assert load(tmp_path, sample_size=(2, 3)).sample_shape == (6, 4)


@pytest.mark.parametrize("size", [0, (8,), (8, -1), "8", 8.0])
def test_load__refuses_a_size_that_is_none(folder, size):
    with pytest.raises(BadInput, match="sample_size must be"):
        load(folder, sample_size=size)


def test_load__says_what_to_install_where_diffusers_is_missing(folder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(BadInput, match="qnoise\\[diffusers\\]"):
        load(folder)


def test_pipeline__of_latents_decodes_its_samples_by_its_autoencoder(tmp_path):
    make("UNet2DModel").save_pretrained(tmp_path / "unet")
    channels = load(tmp_path / "unet").sample_shape[0]
    with torch.random.fork_rng():
        torch.manual_seed(2)
        sizes = {"block_out_channels": (8, 8), "norm_num_groups": 4, "latent_channels": channels}
        kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
        vae = diffusers.AutoencoderKL(**sizes, **kinds, scaling_factor=0.7).eval()
    vae.save_pretrained(tmp_path / "vae")
    pipeline(tmp_path, "UNet2DModel", diffusers.DDIMScheduler())
    model = load(tmp_path)
    assert load(tmp_path / "unet").decoder is None
    x = sample(model.sample_shape)[:1]
    assert torch.equal(model.decoder.decode(x), vae.decode(x / 0.7).sample.detach())
    sampler = DDIM(model.schedule, 2)
    ranges = simulator.calibrate_ranges(model, sampler, samples=2)
    arm = simulator.Arm(simulator.QuantizedModel(model, simulator.Scheme.parse("w8a8"), ranges))
    found = simulator.run(arm, sampler, samples=2)
    assert found.sizes["image_channel"] == 3
    assert (found.decoded_accumulated.sel(moment="ee") > 0).all()
