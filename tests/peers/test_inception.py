"""Claim: Inception-v3 here computes torchvision's and pytorch-fid's features from the same weights, to the bit.

Peers: torchvision, pytorch-fid, with random weights. Both are in no extra, since torchvision is tied to one build of
torch: the tests are skipped without them, whatever QNOISE_REQUIRE_PEERS says. Last run by hand with torchvision 0.29.2
and pytorch-fid 0.3.0 on torch 2.13 (2026-11-21).
"""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from studies.quality.feature_sets import load_inception

try:
    from torchvision.models import inception as torchvision_inception
except (ImportError, RuntimeError) as missing:
    pytest.skip(f"torchvision: {missing}", allow_module_level=True)


def shaken(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights and statistics under which activations neither vanish nor blow up."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return network.eval()


@torch.no_grad()
def test_inception__computes_torchvisions_logits(tmp_path):
    options = {"aux_logits": True, "init_weights": False, "transform_input": False}
    peer = shaken(torchvision_inception.Inception3(num_classes=1000, **options))
    safetensors.torch.save_file(peer.state_dict(), tmp_path / "weights.safetensors")
    x = torch.rand(2, 3, 299, 299) * 2 - 1
    assert torch.equal(load_inception(tmp_path / "weights.safetensors").network(x).logits, peer(x))


@torch.no_grad()
def test_inception__computes_pytorch_fids_features_of_small_images(tmp_path, monkeypatch):
    fid = pytest.importorskip("pytorch_fid.inception")
    options = {"aux_logits": False, "init_weights": False, "transform_input": False}
    network = torchvision_inception.Inception3(num_classes=1008, **options)
    for name, pooled, into in (("5b", 32, 192), ("5c", 64, 256), ("5d", 64, 288)):
        setattr(network, f"Mixed_{name}", fid.FIDInceptionA(into, pool_features=pooled))
    for name, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        setattr(network, f"Mixed_{name}", fid.FIDInceptionC(768, channels_7x7=inner))
    network.Mixed_7b, network.Mixed_7c = fid.FIDInceptionE_1(1280), fid.FIDInceptionE_2(2048)
    shaken(network)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "weights.safetensors")
    monkeypatch.setattr(fid, "fid_inception_v3", lambda: network)
    images = torch.rand(2, 3, 8, 8)  # on [0, 1], as it takes them
    expected = fid.InceptionV3([3]).eval()(images)[0][:, :, 0, 0]
    found = torch.from_numpy(load_inception(tmp_path / "weights.safetensors")(images * 2 - 1).pooled)
    # its scaling to [-1, 1] comes after resizing, hence rounding
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
