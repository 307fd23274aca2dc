"""Shipped models by name: a manifest (JSON) and a weights file (safetensors), checked before anything is trusted.

``digits-unet`` means the newest version in the folder, ``digits-unet@1`` exactly that one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from samplers.schedule import NoiseSchedule
from simulator.models.architectures import Network, architecture_of, build, config_from
from simulator.models.checkpoint import write_bytes
from simulator.models.decoder import Decoder
from simulator.models.dit import NULL_LABEL
from simulator.models.latent_space import LatentSpace

WEIGHTS = Path(__file__).parent / "weights"
DENOISER, CLASSIFIER = "denoiser", "classifier"
"""What a manifest's ``kind`` says; a manifest without one is a noise predictor's."""

_FILE = re.compile(r"(?P<name>[a-z0-9]+(-[a-z0-9]+)*)@(?P<version>[1-9][0-9]*)\.safetensors")


@dataclass(frozen=True)
class Condition:
    """A tensor that a network takes beside x and timestep, with a row for each sample of the batch.

    Args:
        name: keyword of the network's call.
        shape: of one sample's row, None where any length will do: () for a label, (None, 768) for tokens of a text.
        null: the label of a sample without one, None if the network has no such label.
    """

    name: str
    shape: tuple[int | None, ...] = ()
    null: int | None = None


@dataclass(frozen=True)
class Model:
    """A noise predictor and what is needed to sample with it.

    A user's own network becomes one by a function without arguments that returns this value, loaded as
    ``simulator.load("module:function")``::

        def factory():
            module = Network()
            module.load_state_dict(safetensors.torch.load_file("network.safetensors"))
            return Model("my-network", 1, module, NoiseSchedule(), (3, 32, 32), "epsilon", "")

    Args:
        name: names the results. Runs are told apart by name, version and weights: change one of them with the code.
        version: from 1.
        module: float32 on the CPU, in eval mode, no parameter requires a gradient (``load`` sees to the last two).
        schedule: the training schedule; None for a network without alphas_cumprod (flow matching), which runs single
            passes, is surveyed and quantized, but not sampled.
        sample_shape: of one sample, (channels, height, width) for images.
        prediction_type: epsilon, sample or v_prediction; what the output is to a sampler. Others are never sampled.
        weights_digest: SHA-256 of the weights file; "" lets ``load`` compute it over parameters and buffers.
        classes: number of labels, 0 to classes - 1, that the first of ``conditions`` takes; None if it takes none.
        call: called as (module, x, timestep, **conditions), returns one tensor shaped like x; None for
            ``module(x, timestep, **conditions)``. x is (n, *sample_shape) float32, timestep (n,) int64. Without
            conditions every shipped network is unconditional. What ``call`` holds itself must show in ``name``.
        conditions: what the network can be told about its samples (``simulator.Conditioning``).
        decoder: what makes pixels of a latent model's samples; it stays in float.
    """

    name: str
    version: int
    module: nn.Module
    schedule: NoiseSchedule | None
    sample_shape: tuple[int, ...]
    prediction_type: str
    weights_digest: str
    classes: int | None = None
    call: Callable[..., Tensor] | None = None
    conditions: tuple[Condition, ...] = ()
    decoder: Decoder | None = None


def available(weights: Path | None = None, *, kind: str = DENOISER) -> dict[str, list[int]]:
    """Names of the models of one kind in the folder, each with its versions in ascending order."""
    found: dict[str, list[int]] = {}
    for path in sorted((weights or WEIGHTS).glob("*.safetensors")):
        match = _FILE.fullmatch(path.name)
        if match and _kind(path.with_suffix(".json")) == kind:
            found.setdefault(match["name"], []).append(int(match["version"]))
    return {name: sorted(versions) for name, versions in found.items()}


def _kind(manifest: Path) -> str:
    """What a manifest describes; loading says what is wrong with one that cannot be read."""
    try:
        return str(json.loads(manifest.read_text()).get("kind", DENOISER))
    except (OSError, ValueError, AttributeError):
        return DENOISER


def load(name: str, *, weights: str | Path | None = None) -> Model:
    """Load a model.

    Args:
        name: ``"digits-unet"`` for the newest version, ``"digits-unet@1"`` for one.
        weights: folder with manifests and weights files; the package's own if None.

    Raises:
        BadInput: no such model, or its files are unreadable or not those that the manifest records.
    """
    folder = WEIGHTS if weights is None else Path(weights)
    stem, version = resolve(name, folder)
    manifest, content, digest = read_weights(folder, f"{stem}@{version}")
    decoder = _latent_space(folder, stem, version, manifest).decoder if "autoencoder" in manifest else None
    # The digest matches, so what follows can fail only for a manifest that was edited or comes from other code.
    try:
        with torch.device("meta"):  # no initial weights: they would cost time and move torch's global generator
            config = config_from(manifest["architecture"], manifest["config"])
            module = build(config)
        module.load_state_dict(safetensors.torch.load(content), assign=True)
        schedule = NoiseSchedule(**manifest["schedule"])
        sample_shape = tuple(int(size) for size in manifest["sample_shape"])
        prediction_type = str(manifest["prediction_type"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise unfit(f"{stem}@{version}", error) from error
    # channels-last is the integer engine's layout, and torch's faster one in float (its stub lacks it)
    module.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    conditions = () if config.classes is None else (Condition("label", null=NULL_LABEL),)
    return Model(
        stem,
        version,
        module,
        schedule,
        sample_shape,
        prediction_type,
        digest,
        config.classes,
        conditions=conditions,
        decoder=decoder,
    )


def load_latent_space(name: str, *, weights: str | Path | None = None) -> LatentSpace:
    """The autoencoder of a latent model: what encodes images for it, and decodes its samples.

    Args:
        name: as in :func:`load`.
        weights: as in :func:`load`.

    Raises:
        BadInput: as in :func:`load`, or a model without an autoencoder.
    """
    folder = WEIGHTS if weights is None else Path(weights)
    stem, version = resolve(name, folder)
    manifest = read_manifest(folder / f"{stem}@{version}.json")
    if "autoencoder" not in manifest:
        raise BadInput("only latent models have an autoencoder", got=f"{stem}@{version}", fix="load digits-latent")
    return _latent_space(folder, stem, version, manifest)


def _latent_space(folder: Path, stem: str, version: int, manifest: dict[str, Any]) -> LatentSpace:
    """The autoencoder beside a latent model's weights; the model's manifest says which."""
    file = f"{stem}@{version}.autoencoder"
    own, content, digest = read_weights(folder, file)
    if {"sha256": digest} != manifest["autoencoder"]:
        raise BadInput(
            "a latent model needs the autoencoder that it was trained with",
            got=f"{digest[:16]}... in {file}.safetensors",
            fix="copy the files of one training together",
        )
    try:
        return LatentSpace.from_manifest(own, content)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise unfit(file, error) from error


def read_weights(folder: Path, stem: str) -> tuple[dict[str, Any], bytes, str]:
    """Manifest, content and digest of a weights file, the digest checked."""
    path = folder / f"{stem}.safetensors"
    manifest = read_manifest(folder / f"{stem}.json")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput("a manifest needs its weights beside it", got=f"{path} ({error})", fix="copy both") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != manifest["weights"]["sha256"]:
        raise BadInput(
            f"weights must have the recorded sha256 {manifest['weights']['sha256'][:16]}...",
            got=f"{digest[:16]}... in {path} ({len(content)} of {manifest['weights']['bytes']} bytes)",
            fix="the file is truncated or changed: reinstall qnoise, or train the model again",
        )
    return manifest, content, digest


def unfit(stem: str, error: Exception) -> BadInput:
    """What is said of a manifest that does not describe its weights."""
    return BadInput(
        "the manifest must describe the weights it comes with",
        got=f"{stem}.json ({str(error).splitlines()[0]})",
        fix="reinstall qnoise, or use the version of qnoise that wrote these files",
    )


def save(
    folder: Path,
    name: str,
    version: int,
    module: Network,
    schedule: NoiseSchedule,
    training: dict[str, Any],
    *,
    sample_shape: tuple[int, ...],
    space: LatentSpace | None = None,
) -> None:
    """Write weights (float32) and manifest in the form that :func:`load` reads; ``training`` is kept as given.

    A latent model's manifest names the autoencoder of ``space``, which :func:`save_latent_space` writes.
    """
    state = {key: value.detach().float().contiguous() for key, value in module.state_dict().items()}
    content = safetensors.torch.save(state)
    write_bytes(folder / f"{name}@{version}.safetensors", content)
    manifest = {
        "name": name,
        "version": version,
        "architecture": architecture_of(module),
        "config": dataclasses.asdict(module.config.inference()),
        "sample_shape": list(sample_shape),
        "prediction_type": "epsilon",
        "schedule": schedule.config(),
        "weights": {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "dtype": "float32"},
        **({} if space is None else {"autoencoder": {"sha256": space.digest}}),
        "training": training,
    }
    write_manifest(folder / f"{name}@{version}.json", manifest)


def save_latent_space(folder: Path, name: str, version: int, space: LatentSpace, training: dict[str, Any]) -> None:
    """Write a latent model's autoencoder: weights (float32) and manifest."""
    file = f"{name}@{version}.autoencoder"
    write_bytes(folder / f"{file}.safetensors", space.weights())
    manifest = {"name": name, "version": version, **space.manifest(), "training": training}
    write_manifest(folder / f"{file}.json", manifest)


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest as JSON."""
    write_bytes(path, (json.dumps(manifest, indent=1) + "\n").encode())


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest; what it must hold for the weights to be checked is checked here."""
    try:
        manifest = json.loads(path.read_text())
        str(manifest["weights"]["sha256"]), int(manifest["weights"]["bytes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            "every weights file needs a readable manifest beside it",
            got=f"{path} ({error})",
            fix="reinstall qnoise, or copy the .json file that was written with the weights",
        ) from error
    return manifest


def is_shipped(name: str, weights: str | Path | None = None) -> bool:
    """Whether the folder has a model of this name, whatever the version."""
    return name.partition("@")[0] in available(WEIGHTS if weights is None else Path(weights))


def resolve(name: str, folder: Path, *, kind: str = DENOISER) -> tuple[str, int]:
    """Split ``name[@version]`` and check it against what the folder holds of that kind."""
    stem, _, version = name.partition("@")
    known = available(folder, kind=kind)
    exact = int(version) if version.isascii() and version.isdigit() else None
    if stem not in known or (version and exact not in known[stem]) or name.endswith("@"):
        listing = ", ".join(f"{n}@{v}" for n, versions in known.items() for v in versions) or f"none in {folder}"
        raise BadInput("the model must be one that exists", got=repr(name), fix=f"available: {listing}")
    return stem, exact if exact is not None else known[stem][-1]
