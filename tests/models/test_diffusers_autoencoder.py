"""Claim: a saved AutoencoderKL decodes to the bits of diffusers; what cannot be trusted or matched is refused."""

import json
import os

import pytest
import torch

from samplers import BadInput
from simulator.models.diffusers_autoencoder import load_decoder

try:
    from diffusers import AutoencoderKL, UNet2DModel
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"diffusers is absent: {error}", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:diffusers")
SIZES = {
    "block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4, "sample_size": 8,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip


def tiny(**options) -> AutoencoderKL:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return AutoencoderKL(**SIZES | options).eval().requires_grad_(False)


def latents(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 4, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def saved(tmp_path):
    tiny(scaling_factor=0.5).save_pretrained(tmp_path / "vae")
    return tmp_path


@pytest.mark.parametrize("shift", [None, 0.25])
@pytest.mark.parametrize("quant_conv", [True, False])
def test_load_decoder__gives_the_bits_of_diffusers(tmp_path, shift, quant_conv):
    autoencoder = tiny(
        scaling_factor=0.36, shift_factor=shift, use_post_quant_conv=quant_conv, use_quant_conv=quant_conv
    )
    autoencoder.save_pretrained(tmp_path / "vae")
    decoder, x = load_decoder(tmp_path), latents()
    z = x / autoencoder.config.scaling_factor + (shift or 0.0)
    assert torch.equal(decoder.decode(x), torch.cat([autoencoder.decode(one).sample for one in z.split(1)]))
    torch.testing.assert_close(decoder.decode(x), autoencoder.decode(z).sample, rtol=1e-5, atol=1e-5)
    assert (decoder.scale, decoder.shift) == (0.36, shift or 0.0)


def test_load_decoder__takes_the_autoencoders_own_folder_too(saved):
    inner, outer = load_decoder(saved / "vae"), load_decoder(str(saved))
    assert torch.equal(inner.decode(latents()), outer.decode(latents()))
    assert inner.digest == outer.digest


def test_load_decoder__reads_shards(saved):
    autoencoder = AutoencoderKL.from_pretrained(saved / "vae")
    autoencoder.save_pretrained(saved / "shards", max_shard_size="20KB")
    assert len(list((saved / "shards").glob("*.safetensors"))) > 1
    assert torch.equal(load_decoder(saved / "shards").decode(latents()), load_decoder(saved).decode(latents()))
    next((saved / "shards").glob("*.safetensors")).unlink()
    with pytest.raises(BadInput, match="all shards"):
        load_decoder(saved / "shards")


def test_load_decoder__keeps_no_encoder_and_takes_no_gradient(saved):
    decoder = load_decoder(saved)
    names = [name for name, _ in decoder.module.named_parameters()]
    assert names
    assert not [name for name in names if ".encoder" in name or ".quant_conv" in name]
    assert not any(p.requires_grad for p in decoder.module.parameters())
    assert not any(module.training for module in decoder.module.modules())


def test_digest__tells_weights_and_sizes_and_not_the_version(saved):
    before = load_decoder(saved).digest
    edit(saved, _diffusers_version="0.0.1", _name_or_path="elsewhere")
    assert load_decoder(saved).digest == before
    edit(saved, scaling_factor=0.75)
    assert load_decoder(saved).digest != before
    other = tiny(scaling_factor=0.5)
    other.decoder.conv_out.bias.data += 1e-6
    other.save_pretrained(saved / "vae")
    assert load_decoder(saved).digest != before


def edit(folder, **changes) -> None:
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_load_decoder__refuses_pickled_weights(saved):
    tiny().save_pretrained(saved / "pickled", safe_serialization=False)
    with pytest.raises(BadInput, match="runs code"):
        load_decoder(saved / "pickled")


def test_load_decoder__takes_safetensors_beside_pickled_weights(saved):
    (saved / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"never read")
    load_decoder(saved)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_load_decoder__refuses_half_precision(tmp_path, dtype):
    tiny().to(dtype).save_pretrained(tmp_path / "vae")
    with pytest.raises(BadInput, match="must be float32"):
        load_decoder(tmp_path)


def test_load_decoder__refuses_a_lone_half_precision_variant(tmp_path):
    tiny().to(torch.float16).save_pretrained(tmp_path / "vae", variant="fp16")
    with pytest.raises(BadInput, match="without a variant"):
        load_decoder(tmp_path)


@pytest.mark.parametrize("missing", ["config.json", "diffusion_pytorch_model.safetensors"])
def test_load_decoder__names_what_is_missing(saved, missing):
    (saved / "vae" / missing).unlink()
    with pytest.raises(BadInput, match=missing):
        load_decoder(saved)


def test_load_decoder__refuses_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(BadInput, match=r"config\.json"):
        load_decoder(tmp_path / "nowhere")


def test_load_decoder__refuses_another_class(tmp_path):
    network = UNet2DModel(8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
                          down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)  # fmt: skip
    network.save_pretrained(tmp_path / "vae")
    with pytest.raises(BadInput, match="UNet2DModel"):
        load_decoder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"block_out_channels": [8, 8]}, "must fit"),
        ({"layers_per_block": 2}, "must fit"),
        ({"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}, "for all channels"),
        ({"scaling_factor": 0.0}, "positive"),
    ],
)
def test_load_decoder__refuses_a_config_that_does_not_fit(saved, changes, rule):
    edit(saved, **changes)
    with pytest.raises(BadInput, match=rule):
        load_decoder(saved)


def test_load_decoder__refuses_truncated_weights(saved):
    path = saved / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadInput, match="whole safetensors"):
        load_decoder(saved)
