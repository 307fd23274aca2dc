"""Local checkpoints of the diffusers library as models: one network's folder, or a pipeline's.

Nothing is downloaded, no code of a checkpoint is run and no pickle is read. The network comes out as diffusers loads
it, in float32 and contiguous, so that its float bits are those of a pipeline.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from samplers.diffusers_config import sampler_from_config
from samplers.errors import BadInput
from samplers.method import Method
from samplers.parameterization import PREDICTION_TYPES
from samplers.schedule import NoiseSchedule
from samplers.sigma_nodes import ZERO_SNR
from simulator.models.decoder import Decoder
from simulator.models.diffusers_autoencoder import load_decoder
from simulator.models.diffusers_family import Family
from simulator.models.diffusers_files import SCHEDULER, Checkpoint, read, read_json
from simulator.models.diffusers_networks import FAMILIES, family_of
from simulator.models.digest import files_digest
from simulator.models.registry import Model

FLOW_PREDICTION = "flow_prediction"
"""prediction_type of a flow-matching network: its output is a velocity, which no sampler here takes."""

UNKNOWN_PREDICTION = "unknown"
"""prediction_type of a network whose folder has no scheduler."""

_LEGACY = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""Names that attention layers of diffusers had before 0.13; checkpoints written with them are still about."""


def load(folder: str | Path, *, sample_size: int | tuple[int, int] | None = None, variance: bool = False) -> Model:
    """Load a diffusers checkpoint from a folder on this machine.

    A network's folder holds ``config.json`` and ``diffusion_pytorch_model.safetensors`` (or its shards and their
    index); a pipeline's holds ``model_index.json``, the network's folder ``unet`` or ``transformer``, and
    ``scheduler``. From the scheduler come the training schedule and the prediction type; how it spaces or clips is the
    sampler's affair and not read. Without a scheduler, or with one that has no alphas_cumprod (flow matching), the
    model's schedule is None: it runs single passes,
    and a sampling run refuses it. ``dataclasses.replace`` gives it one.

    The ``vae`` of a pipeline (AutoencoderKL) becomes the model's decoder; to leave it out, load the network's folder.

    Conditions have the names of the network's own arguments (``model.conditions``). A network that predicts a variance
    too gives its first half, the mean, unless ``variance`` asks for both. The model is named after its class and a
    digest of configuration, weights, schedule and sample size, so two checkpoints never share results; the folder's
    name does not enter.

    Args:
        folder: the network's or the pipeline's.
        sample_size: height and width of the network's input (latent pixels for latent models, tokens for Flux); the
            configuration's own if None. Flux has none.
        variance: keep the predicted variance, which ``samplers.DDPM`` with variance_type learned_range or learned needs
            and every other sampler refuses.

    Raises:
        BadInput: diffusers is not installed, a file is missing or unreadable, weights are pickled or not float32 or not
            those of the configuration, or the class is not one of ``FAMILIES``; ``variance`` of a network without one.
    """
    library = _library()
    found = read(Path(folder).expanduser())
    family = family_of(found.config, found.folder)
    module = _network(library, family, found)
    config: dict[str, Any] = dict(module.config)  # type: ignore[arg-type]  # nn.Module's stub takes it for a layer
    family.check(config, found.folder)
    shape = family.shape(config, _size(sample_size))
    if variance and not family.predicts_variance(config):
        raise BadInput("the network must predict a variance", got=f"{found.folder}, without one", fix="drop variance")
    schedule, prediction_type = _schedule(library, found)
    digest = files_digest(found.weights)
    identity = {
        "config": {key: value for key, value in found.config.items() if key not in _NOT_IDENTITY},
        "weights": digest,
        "schedule": None if schedule is None else schedule.config(),
        "prediction_type": prediction_type,
        "shape": shape,
        **({"variance": True} if variance else {}),
    }
    mark = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return Model(
        f"{family.name}-{mark}", 1, module, schedule, shape, prediction_type, digest, family.classes(config),
        family.call(config, _size(sample_size), variance=variance), family.conditions(config),
        _decoder(Path(folder).expanduser()),
    )  # fmt: skip


def load_sampler(folder: str | Path, num_inference_steps: int, **changes: Any) -> Method:
    """The sampler that a pipeline's folder names, as :func:`samplers.sampler_from_config` makes it.

    Args:
        folder: the pipeline's.
        num_inference_steps: steps of a run.
        changes: arguments of the sampler that replace the configuration's, such as ``eta``.

    Raises:
        BadInput: the folder has no scheduler, or one that has no counterpart here.
    """
    path = Path(folder).expanduser() / "scheduler" / SCHEDULER
    if not path.is_file():
        raise BadInput("a pipeline's folder must hold its scheduler", got=f"no {path}", fix="build a sampler yourself")
    return sampler_from_config(read_json(path), num_inference_steps, **changes)


def _decoder(folder: Path) -> Decoder | None:
    """What makes pixels of a latent pipeline's samples."""
    return load_decoder(folder) if (folder / "vae").is_dir() else None


_NOT_IDENTITY = {"_diffusers_version", "_name_or_path", "sample_size"}


def _library() -> ModuleType:
    try:
        import diffusers
    except ImportError as error:
        raise BadInput(
            "checkpoint folders need the diffusers package", got=f"no diffusers ({error})",
            fix="install it: pip install 'qnoise[diffusers]'",
        ) from error  # fmt: skip
    return diffusers


def _size(sample_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    sizes = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    if sizes is None:
        return None
    if not (isinstance(sizes, tuple) and len(sizes) == 2 and all(isinstance(n, int) and n > 0 for n in sizes)):
        raise BadInput("sample_size must be a positive integer or two", got=repr(sample_size), fix="give height, width")
    return sizes


def _network(library: ModuleType, family: Family, found: Checkpoint) -> nn.Module:
    """The network with its weights, all of them and no others, in eval mode, without gradients."""
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and replaced below
            module = getattr(library, family.name).from_config(found.config)
        state: dict[str, Tensor] = {}
        for path in found.weights:
            state |= safetensors.torch.load_file(path)
        module.load_state_dict(_renamed(state, set(module.state_dict())))
    except Exception as error:  # whatever a configuration of another version makes a constructor raise
        raise BadInput(
            "the weights must be those of the configuration, and that one of the installed diffusers",
            got=f"{found.folder} ({' '.join(str(error).split())[:300]})",
            fix=f"save the model again with diffusers {library.__version__}",
        ) from error
    return module.float().eval().requires_grad_(False)


def _renamed(state: dict[str, Tensor], known: set[str]) -> dict[str, Tensor]:
    """Old names of attention layers become today's, where only today's is known."""
    renamed = {}
    for name, tensor in state.items():
        new = name
        if name not in known:
            for old, current in _LEGACY.items():
                new = new.replace(old, current)
        renamed[new if new in known else name] = tensor
    return renamed


def _schedule(library: ModuleType, found: Checkpoint) -> tuple[NoiseSchedule | None, str]:
    """The training schedule, None if there is no alphas_cumprod, and the prediction type."""
    if found.scheduler is None:
        return None, UNKNOWN_PREDICTION
    where = f"{found.scheduler_name} in {found.folder.parent / 'scheduler'}"
    kind = getattr(library, found.scheduler_name, None)
    if not (isinstance(kind, type) and issubclass(kind, library.SchedulerMixin)):
        raise BadInput("a scheduler must be one of diffusers", got=where, fix=_WITHOUT)
    try:
        scheduler = kind.from_config(found.scheduler)  # type: ignore[attr-defined]  # of a mixin beside
    except Exception as error:  # as above
        raise BadInput("a scheduler's configuration must be valid", got=f"{where} ({error})", fix=_WITHOUT) from error
    config = scheduler.config
    prediction_type = str(config.get("prediction_type", "epsilon"))
    if config.get("use_flow_sigmas") or "FlowMatch" in found.scheduler_name or prediction_type == FLOW_PREDICTION:
        return None, FLOW_PREDICTION
    if not isinstance(getattr(scheduler, "alphas_cumprod", None), Tensor):
        return None, prediction_type
    if prediction_type not in PREDICTION_TYPES:
        raise BadInput(
            f"prediction_type must be one of {', '.join(PREDICTION_TYPES)}", got=f"{prediction_type} of {where}",
            fix=_WITHOUT,
        )  # fmt: skip
    names = (
        "beta_schedule",
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "trained_betas",
        "rescale_betas_zero_snr",
    )
    given: dict[str, Any] = {name: config[name] for name in names if config.get(name) is not None}
    if "trained_betas" in given:
        given.pop("beta_schedule", None)  # not used then, and often one that has no formula here
    try:
        schedule = NoiseSchedule(**given)
        single = NoiseSchedule(**given, tables="float32").alphas_cumprod
    except BadInput as error:
        raise BadInput(f"{error.rule} (the betas of {where})", got=error.got, fix=_WITHOUT) from error
    theirs = scheduler.alphas_cumprod.float().numpy()
    if (
        schedule.rescale_betas_zero_snr and theirs[-1] == ZERO_SNR
    ):  # what samplers of sigma do to a table that ends at 0
        single = np.append(single[:-1], theirs[-1:])
    # what else moves the betas (shifts) shows here, whatever an option for it is called
    if single.tobytes() != theirs.tobytes():
        raise BadInput(
            "alphas_cumprod must follow from the betas alone",
            got=f"others, by an option of {where}", fix=_WITHOUT,
        )  # fmt: skip
    return schedule, prediction_type


_WITHOUT = "load the network's own folder for single passes, or give it a schedule with dataclasses.replace"

__all__ = ["FAMILIES", "FLOW_PREDICTION", "UNKNOWN_PREDICTION", "load", "load_sampler"]
