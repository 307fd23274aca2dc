"""``qnoise sites``: the table and the JSON hold every site and the totals; bad input is one line and exit code 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch_modules import Calls, Ignoring, as_model

from simulator.instrument.coverage import cover
from simulator.models.registry import load
from studies import cli, sites

STEPPED = """
base = "w4a8"
[[site]]
sites = ["@attention"]
activation_bits = 4
steps = [10, 20]
"""


def qnoise(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["qnoise", "sites", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def lines_of(text: str) -> dict[str, list[str]]:
    """Cells of each table row by its first cell."""
    rows = [line.strip("│┃ ").replace("┃", "│").split("│") for line in text.splitlines() if line[:1] in "│┃"]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_sites__prints_every_contraction_its_treatments_and_totals(monkeypatch, capsys) -> None:
    assert qnoise(monkeypatch, "digits-unet", "--scheme", "w4a8", "--scheme", "mxfp4", "--steps", "20") == 0
    text = capsys.readouterr().out
    rows = lines_of(text)
    model = load("digits-unet")
    x, timestep = torch.zeros(1, *model.sample_shape), torch.zeros(1, dtype=torch.long)
    for entry in cover(model.module, x, timestep).entries:
        shapes, macs, *_ = rows[entry.site]
        assert shapes.startswith(" . ".join("x".join(map(str, shape)) for shape in entry.operands) + " -> 1x")
        assert macs == f"{entry.macs:,}"
    assert rows["mid.attention:qk"] == ["1x4x16x16 . 1x4x16x16 -> 1x4x16x16", "16,384", "a8 a8", "MXFP4"]
    assert rows["conv_in:conv2d"][2:] == ["a8 w8", "a8 w8"]
    assert rows["down.0.conv1:conv2d"][2:] == ["a8 w4", "MXFP4"]
    edges, attention, inner = 2 * 18432, 2 * 16384, 6332416 - 2 * 18432 - 2 * 16384
    bops = 64 * (edges + attention) + 32 * inner
    assert rows["float32"][:4] == ["6,332,416", f"{1024 * 6332416:,}", "1", "1,088,644"]
    assert rows["w4a8"] == ["6,332,416", f"{bops:,}", "0.0316", "149,064", "135,232", "4,740", "9,092", "0.1369"]
    assert f"over 20 steps: {20 * 6332416:,} MACs; BOPs w4a8 {20 * bops:,}, mxfp4 " in text


def test_sites__json_says_the_same_by_step(monkeypatch, capsys, tmp_path: Path) -> None:
    (tmp_path / "stepped.toml").write_text(STEPPED)
    assert qnoise(monkeypatch, "digits-dit", "--scheme", str(tmp_path / "stepped.toml"), "--json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (found["model"], found["steps"], found["outside_sites"]) == ("digits-dit@1", 50, [])
    assert found["macs"] == sum(site["macs"] for site in found["sites"]) == 5838336
    assert found["float32"] == {"bops": 1024 * 5838336, "weight_bytes": 4 * 475412}
    (scheme,) = found["schemes"]
    runs = [site for site in scheme["sites"] if site["site"] == "blocks.0.attention:qk"]
    assert [(run["steps"], run["bits"]) for run in runs] == [([0, 10], [8, 8]), ([10, 20], [4, 4]), ([20, 50], [8, 8])]
    assert runs[1]["bops"] == 24576 * 16
    for step in (0, 10, 49):
        here = [site["bops"] for site in scheme["sites"] if site["steps"][0] <= step < site["steps"][1]]
        assert len(here) == len(found["sites"])
        assert sum(here) == scheme["bops"][step]
    assert scheme["total_bops"] == sum(scheme["bops"])
    assert scheme["weight_bytes"]["total"] == sum(scheme["weight_bytes"][part] for part in ("codes", "scales", "rest"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["digits-vae"], "digits-unet"),
        (["digits-unet", "--scheme", "w3q8"], "wXaY"),
        (["digits-unet", "--scheme", "w8a8", "--scheme", "W08A8"], "schemes must differ"),
        (["digits-unet", "--scheme", "absent.toml"], "readable TOML"),
        (["digits-unet", "--scheme", "w8a8@torch-fbgemm"], "no float output for a conv"),
        (["digits-unet", "--guidance", "2"], "guidance needs conditions"),
        (["digits-unet", "--conditioning", "absent.safetensors"], "absent.safetensors"),
        (["absent_module:factory"], "absent_module"),
        (["digits-unet", "--steps", "0"], "steps must be 1 to 1000"),
        (["digits-unet", "--steps", "1001"], "steps must be 1 to 1000"),
    ],
)
def test_sites__bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, arguments, says) -> None:
    assert qnoise(monkeypatch, *arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("qnoise: ")
    assert says in error
    assert len(error.strip().splitlines()) == 1


def test_sites__pattern_that_names_nothing_is_one_line_and_exit_code_2(monkeypatch, capsys, tmp_path: Path) -> None:
    (tmp_path / "scheme.toml").write_text(STEPPED.replace("@attention", "frist"))
    assert qnoise(monkeypatch, "digits-unet", "--scheme", str(tmp_path / "scheme.toml")) == 2
    error = capsys.readouterr().err
    assert "a pattern must name a site" in error
    assert len(error.strip().splitlines()) == 1


def test_sites__of_ones_own_network_counts_both_passes_of_guidance(monkeypatch, capsys, tmp_path: Path) -> None:
    (tmp_path / "own_dit.py").write_text(
        "import simulator\ndef factory():\n    return simulator.load('digits-dit')\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    save_file({"label": torch.arange(3)}, tmp_path / "labels.safetensors")
    macs = []
    for guidance in ("1", "2"):
        options = ("--conditioning", "labels.safetensors", "--guidance", guidance, "--scheme", "w8a8", "--json")
        assert qnoise(monkeypatch, "own_dit:factory", *options) == 0
        macs.append(json.loads(capsys.readouterr().out)["macs"])
    assert macs == [5838336, 2 * 5838336]


def test_sites__says_that_a_decoder_is_not_counted(monkeypatch, capsys) -> None:
    assert qnoise(monkeypatch, "digits-latent", "--scheme", "w8a8") == 0
    text = capsys.readouterr().out
    assert "the decoder of latents stays in float and is not counted" in text
    weights = sum(p.numel() for p in load("digits-latent").module.parameters())
    assert lines_of(text)["float32"][3] == f"{4 * weights:,}"


def test_sites__names_weights_that_are_computed(monkeypatch, capsys) -> None:
    body = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    monkeypatch.setattr(sites, "_load", lambda name: as_model(Ignoring(body), (3, 4)))
    assert qnoise(monkeypatch, "any", "--scheme", "w8a8") == 0
    assert "counted in float32: body.0:linear" in capsys.readouterr().out


def test_sites__what_nobody_sees_into_is_unknown_and_in_no_total(monkeypatch, capsys) -> None:
    body = nn.Sequential(nn.Linear(4, 4), nn.GRU(4, 4), Calls(lambda x: x[0]), nn.Linear(4, 4), Numpy())
    monkeypatch.setattr(sites, "_load", lambda name: as_model(Ignoring(body), (3, 4)))
    assert qnoise(monkeypatch, "any") == 2
    assert "body.1" in capsys.readouterr().err
    allowed = ("--allow-float", "body.1", "--allow-float", "body.3", "--allow-float", "body.4")
    assert qnoise(monkeypatch, "any", "--scheme", "w8a8", *allowed) == 0
    text = capsys.readouterr().out
    rows = lines_of(text)
    assert rows["body.0:linear"][1] == rows["float32"][0] == str(3 * 16)
    assert rows["body.3:linear"] == ["float", str(3 * 16), "-"]
    assert rows["body.4:Tensor.numpy"] == ["unknown", "?", "-"]
    assert "outside sites, in no total: ? MACs in float; unknown: body.4:Tensor.numpy" in text
    assert qnoise(monkeypatch, "any", "--scheme", "w8a8", *allowed, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["macs"] == 48
    assert {"name": "body.4:Tensor.numpy", "done": "unknown", "macs": None} in found["outside_sites"]


class Numpy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() @ x.numpy().swapaxes(-1, -2))
