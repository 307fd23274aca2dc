"""The model card as Markdown: the figures of ``card.py`` laid out, and the few facts that are not numbers."""

from __future__ import annotations

from typing import Any

from samplers.schedule import require_schedule
from simulator.models.card_latent import autoencoder_text
from simulator.models.registry import Model

_KINDS = ("frechet", "energy")

_INTRO = """\
# {model}

{subject}

- {parameters:,} parameters, {macs:,} multiply-accumulates per sample and step, float32, `sha256 {digest}`
- epsilon prediction, samples {samples}, schedule {schedule}
- data: the digits bundled with scikit-learn (UCI Optical Recognition of Handwritten Digits, CC BY 4.0), {train} images
  to train, {held_out} held out for evaluation and for choosing the recipe and when to stop (so the held-out loss is
  slightly optimistic), split stratified by label and recorded; writers are not kept apart
- not a model of anything but these digits, and no measure of quality of larger models

Every number in this file is computed by `python -m simulator.models.card`.
"""


_UNCONDITIONAL = """\
A UNet with one self-attention that predicts the noise in 8x8 grey images of handwritten digits. It exists to be
quantized: small enough to sample thousands of images in seconds on one core, trained well enough that the noise of a
quantizer, not of the network, is what one sees."""

_CONDITIONAL = """\
A diffusion transformer with adaLN-zero blocks that predicts the noise in 8x8 grey images of handwritten digits, of an
asked class or of any. It exists so that transformers can be quantized: small enough to sample thousands of images in
seconds on one core, trained well enough that the noise of a quantizer, not of the network, is what one sees."""

_LATENT = """\
A latent diffusion model: a small autoencoder of 8x8 grey images of handwritten digits, and a UNet that predicts the
noise in its latents. It exists so that noise can be compared before and after decoding, and latent with pixel models;
what it samples is no better than what its autoencoder can draw."""


def card_text(model: Model, figures: dict[str, Any]) -> str:
    """Lay the figures out."""
    schedule = require_schedule(model.schedule)
    intro = _INTRO.format(
        model=figures["model"],
        subject=_subject(model),
        parameters=figures["parameters"],
        macs=figures["macs_per_sample"],
        samples="(1, 8, 8) on [-1, 1]" if model.decoder is None else f"{model.sample_shape}, decoded to (1, 8, 8)",
        digest=figures["weights_sha256"],
        schedule=f"{schedule.beta_schedule} from {schedule.beta_start:g} to {schedule.beta_end:g}, "
        f"{schedule.num_train_timesteps} timesteps",
        train=figures["real"]["train"],
        held_out=figures["real"]["held_out"],
    )
    unit = "pixel" if model.decoder is None else "latent element"
    parts = [intro, _training(figures["training"]), _losses(figures["denoising"], unit)]
    if "autoencoder" in figures:
        parts.insert(1, autoencoder_text(figures["autoencoder"]))
    parts += [_distances(figures), _nearest(figures), _levels(figures)]
    if "guidance" in figures:
        parts.append(_guidance(figures["guidance"], figures["samples"]["count"]))
    return "\n".join(parts)


def _subject(model: Model) -> str:
    if model.decoder is not None:
        return _LATENT
    return _UNCONDITIONAL if model.classes is None else _CONDITIONAL


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _training(facts: dict[str, Any]) -> str:
    recipe = facts["recipe"]
    return (
        "## Training\n\n"
        f"AdamW, peak learning rate {recipe['learning_rate']:g} with cosine decay over {recipe['steps']} steps of "
        f"{recipe['batch_size']} images, weight decay {recipe['weight_decay']:g}, dropout "
        f"{recipe['network']['dropout']:g},\ntimesteps stratified with power {recipe['timestep_power']:g}, weights "
        f"averaged with decay {recipe['ema_decay']:g}, seed {recipe['seed']}. "
        f"{_labels(recipe['network'])}Stopped after {facts['steps_run']} steps;\n"
        f"the average of step {facts['best_step']} has the lowest held-out loss "
        f"({facts['held_out_loss']:.4f}) and is what is shipped.\nTook {facts['seconds'] / 60:.0f} minutes on "
        f"{facts['threads']} thread with torch {facts['torch']}.\n"
    )


def _labels(network: dict[str, Any]) -> str:
    if "label_dropout" not in network:
        return ""
    return f"Labels dropped with\nprobability {network['label_dropout']:g}. "


def _losses(figures: dict[str, Any], unit: str) -> str:
    bins = figures["bins"]
    parts = [part for part in ("train", "held_out", "held_out_without_label") if part in figures]
    rows = [
        [f"{1000 * b // bins} to {1000 * (b + 1) // bins - 1}"]
        + [f"{figures[part]['by_bin'][b]:.4f}" for part in parts]
        for b in range(bins)
    ]
    mean = [f"{figures[part]['mean']:.4f} ± {figures[part]['standard_error']:.4f}" for part in parts]
    header = ["timesteps", *[part.replace("_", " ") for part in parts]]
    table = _table(header, [*rows, ["all (± standard error over images)", *mean]])
    given = "The network is given each image's label, but in the last column.\n" if len(parts) > 2 else ""
    how = f"Mean squared error of epsilon per {unit}, fixed noises and timesteps.\n{given}"
    return f"## Denoising loss\n\n{how}\n{table}"


def _distances(figures: dict[str, Any]) -> str:
    def row(label: str, found: dict[str, Any]) -> list[str]:
        cells = [f"{found[kind]['mean']:.4f} ± {found[kind]['sd']:.4f}" for kind in _KINDS]
        return [label, str(found["size"]), *cells]

    samples = figures["samples"]
    rows = [row("train to held out (floor)", figures["real"]["distances"])]
    for steps, found in samples["by_steps"].items():
        rows.append(row(f"{steps} steps to held out", found["to_held_out"]))
        rows.append(row(f"{steps} steps to train", found["to_train"]))
    return (
        "## Distances of samples to data\n\n"
        f"{samples['count']} samples per row ({samples['sampler']}, x0 not clipped, seed {samples['seed']}). Pixels on "
        "[0, 1]; squared Frechet distance\nof fitted Gaussians (biased upwards, by as much as in the floor) and "
        "unbiased energy distance, between random subsets of\nequal size: mean ± standard deviation over subsets. A "
        "stratified split puts its parts nearer to each other than\nindependent draws, hence an energy floor "
        "below 0.\n\n"
    ) + _table(["pair", "images each", "Frechet", "energy"], rows)


def _nearest(figures: dict[str, Any]) -> str:
    def row(label: str, found: dict[str, float]) -> list[str]:
        return [label, *[f"{value:.2f}" for value in found.values()]]

    real = figures["real"]["nearest_train"]["held_out"]
    rows = [row("held-out images", real)]
    closer = []
    for steps, found in figures["samples"]["by_steps"].items():
        rows.append(row(f"samples, {steps} steps", found["nearest_train"]))
        closer.append(f"{100 * found['closer_than_any_held_out']:.1f} % ({steps} steps)")
    return (
        "## Nearest training image\n\n"
        "Euclidean distance to the nearest training image, pixels on [0, 1]. Copies would show as small quantiles far\n"
        "below those of held-out images. Samples nearer to a training image than every held-out image is:\n"
        f"{', '.join(closer)}.\n\n"
    ) + _table(["quantile", *[f"{100 * float(q):g} %" for q in real]], rows)


def _levels(figures: dict[str, Any]) -> str:
    def row(label: str, found: dict[str, float]) -> list[str]:
        return [label, *[f"{100 * found[kind]:.1f} %" for kind in ("background", "faint")]]

    rows = [row(part.replace("_", " "), found) for part, found in figures["real"]["levels"].items()]
    rows += [row(f"samples, {s} steps", found["levels"]) for s, found in figures["samples"]["by_steps"].items()]
    return (
        "## Background\n\nShares of pixels that round to level 0 and to levels 1 or 2 of 16; speckle would raise the "
        "second.\n\n"
    ) + _table(["images", "background", "faint grey"], rows)


def _guidance(figures: dict[str, Any], count: int) -> str:
    """Labels of the nearest training images, class by class, then what guidance costs in distance to the data."""

    def row(label: str, found: dict[str, Any]) -> list[str]:
        return [label, *[f"{100 * share:.1f} %" for share in (*found["by_class"], found["all"])]]

    by_weight = figures["by_weight"]
    classes = len(figures["held_out"]["nearest_has_label"]["by_class"])
    hits = [row("held-out images", figures["held_out"]["nearest_has_label"])]
    hits += [row(f"weight {weight}", found["nearest_has_label"]) for weight, found in by_weight.items()]
    costs = []
    for weight, found in by_weight.items():
        pair = [f"{found['to_held_out'][kind]['mean']:.4f} ± {found['to_held_out'][kind]['sd']:.4f}" for kind in _KINDS]
        costs.append([f"weight {weight}", *pair, f"{found['nearest_train']['0.5']:.2f}"])
    return (
        "## Classes and guidance\n\n"
        f"{count} samples per row, {figures['steps']} steps, sample i asked for class i mod {classes}. Classifier-free "
        "guidance: weight 0 is\nthe network without a label, 1 the network with it and no guidance (as in the sections "
        "above). Shares of samples whose\nnearest training image has the label asked for, class by class; weight 0 "
        f"cannot see it, so chance is {100 / classes:g} %:\n\n"
        + _table(["images", *[str(label) for label in range(classes)], "all"], hits)
        + "\nDistances to held-out images as above; the last column is the median distance to the nearest training "
        "image.\n\n" + _table(["samples", "Frechet", "energy", "nearest"], costs)
    )
