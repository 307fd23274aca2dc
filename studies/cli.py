"""The ``qnoise`` command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from samplers.errors import QnoiseError
from studies.figures.cli import plot, table
from studies.recipes.cli import app as methods_app
from studies.report.cli import report
from studies.sampler_names import SAMPLERS
from studies.store.cli import app as store_app
from studies.study.cli import app as study_app

MODEL_HELP = "A shipped model, a diffusers folder (./path), or module:factory."
SCHEMES_HELP = "A short string (w4a8) or a TOML file; repeat for several."

# one meaning, one name, one text in every command
ModelOption = Annotated[str, typer.Option(help=MODEL_HELP)]
SamplerOption = Annotated[
    str, typer.Option(help=f"{', '.join(SAMPLERS[:-1])} or {SAMPLERS[-1]}; NAME:knob=value,... brings knobs along.")
]
KnobOption = Annotated[
    list[str] | None,
    typer.Option(help="The sampler's own: name=value by diffusers' names (solver_order=1); repeat for several."),
]
StepsOption = Annotated[int, typer.Option(help="Sampling steps.")]
EtaOption = Annotated[float | None, typer.Option(help="DDIM's eta. [default: 0]")]
SeedOption = Annotated[int, typer.Option(help="Seed of the noise streams.")]
CalibrationOption = Annotated[int, typer.Option(help="Samples that ranges, and what else is fitted, are fitted on.")]
ConditioningOption = Annotated[
    Path | None, typer.Option(help="Conditions of samples: a safetensors file, see simulator.Conditioning.")
]
GuidanceOption = Annotated[float, typer.Option(help="Classifier-free guidance weight of --conditioning.")]
ThreadsOption = Annotated[int | None, typer.Option(help="Threads; part of the key. [default: all cores]")]
OutOption = Annotated[Path, typer.Option(help="Folder that results are put under.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")]

app = typer.Typer(
    name="qnoise",
    help="Exact simulation of quantization noise in the sampling process of diffusion models.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


app.add_typer(methods_app, name="methods")
app.add_typer(study_app, name="study")
app.add_typer(store_app, name="store")


@app.callback()
def _root() -> None:
    """A callback keeps ``run`` a subcommand while it is alone."""


@app.command()
def run(
    model: ModelOption = "digits-unet",
    scheme: Annotated[list[str] | None, typer.Option(help=f"{SCHEMES_HELP} [default: w8a8, w4a8, w4a4]")] = None,
    sampler: SamplerOption = "ddim",
    knob: KnobOption = None,
    steps: StepsOption = 50,
    eta: Annotated[
        float | None,
        typer.Option(help="DDIM's eta. [default: 0; the default job also runs w4a8 at eta 1]"),
    ] = None,
    samples: Annotated[int, typer.Option(help="Samples to evaluate.")] = 64,
    seed: SeedOption = 0,
    calibration_samples: CalibrationOption = 256,
    conditioning: ConditioningOption = None,
    guidance: GuidanceOption = 1.0,
    state: Annotated[
        str | None,
        typer.Option(
            help="Number format of the quantized runs' x_t and updates: float64, float32, float16, bfloat16, or "
            "fixed:BITS:FRACTION_BITS. [default: float64]"
        ),
    ] = None,
    threads: ThreadsOption = None,
    out: OutOption = Path("results"),
    json: JsonOption = False,
) -> None:
    """Sample in full precision and in exact integers on shared noise; store and plot the noise per step."""
    from studies.main_job import run_main_job

    run_main_job(
        model=model, schemes=tuple(scheme or ()), sampler=sampler, knobs=tuple(knob or ()), steps=steps,
        eta=eta, samples=samples, seed=seed, calibration_samples=calibration_samples, conditioning=conditioning,
        guidance=guidance, state=state, threads=threads, out=out, as_json=json,
    )  # fmt: skip


@app.command()
def explain(
    source: Annotated[
        list[Path] | None,
        typer.Argument(help="A run's .nc file or a results folder; several of them too. [default: make the runs]"),
    ] = None,
    model: ModelOption = "digits-unet",
    scheme: Annotated[list[str] | None, typer.Option(help=f"{SCHEMES_HELP} [default: w8a8, w4a8]")] = None,
    sampler: SamplerOption = "ddim",
    knob: KnobOption = None,
    steps: StepsOption = 50,
    eta: EtaOption = None,
    samples: Annotated[int, typer.Option(help="Samples to evaluate.")] = 256,
    keep: Annotated[int, typer.Option(help="Samples whose epsilon and noise are kept whole.")] = 128,
    seed: SeedOption = 0,
    calibration_samples: CalibrationOption = 256,
    threads: ThreadsOption = None,
    conditioning: Annotated[
        Path | None,
        typer.Option(help="Conditions of samples: a safetensors file; its labels are the classes that are compared."),
    ] = None,
    guidance: Annotated[
        list[float] | None,
        typer.Option(help="Guidance weight of --conditioning; repeat for several, which are compared. [default: 1]"),
    ] = None,
    method: Annotated[str, typer.Option(help="Intervals of decompositions: jackknife or bootstrap.")] = "jackknife",
    out: OutOption = Path("results"),
    json: JsonOption = False,
) -> None:
    """Split the noise of runs into slope, bias and residual, and test what corrections assume of the residual."""
    from studies.explain.command import explain as explain_noise

    explain_noise(
        sources=tuple(source or ()), conditioning=conditioning, weights=tuple(guidance or ()), keep=keep, method=method,
        out=out, as_json=json, model=model, schemes=tuple(scheme or ()), sampler=sampler, steps=steps, eta=eta,
        samples=samples, seed=seed, calibration_samples=calibration_samples, threads=threads, knobs=tuple(knob or ()),
    )  # fmt: skip


@app.command()
def claims(
    claim: Annotated[list[str] | None, typer.Option(help="One of them; repeat for several. [default: all]")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds of each. [default: the claim's own]", min=3)] = None,
    quick: Annotated[bool, typer.Option(help="Tiny runs, to see that all of it works.")] = False,
    threads: ThreadsOption = None,
    out: OutOption = Path("results"),
    json: JsonOption = False,
) -> None:
    """Measure published claims and print a verdict for each: confirmed, contradicted or inconclusive."""
    from studies.claims.command import run_claims

    run_claims(names=tuple(claim or ()), seeds=seeds, quick=quick, threads=threads, out=out, as_json=json)


@app.command()
def scoreboard(
    recipe: Annotated[list[str] | None, typer.Option(help="As in qnoise methods; repeat. [default: all]")] = None,
    bits: Annotated[
        list[str] | None, typer.Option(help="Such as w4a8 or w3a3; repeat. [default: w8a8 w8a6 w4a8 w4a4]")
    ] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Model; repeat. [default: digits-unet digits-dit]")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Seeds per row; those that train have 3. [default: 5]", min=3)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of DDIM with eta 1. [default: 20]")] = None,
    samples: Annotated[int | None, typer.Option(help="Final samples of each cell. [default: 2048]")] = None,
    quick: Annotated[bool, typer.Option(help="One model, one width, few samples: nothing to quote.")] = False,
    threads: ThreadsOption = None,
    out: OutOption = Path("results"),
    json: JsonOption = False,
) -> None:
    """Run recipes side by side: noise, quality of samples and cost, over seeds, against minmax."""
    from studies.scoreboard.command import run_scoreboard

    run_scoreboard(
        recipes=tuple(recipe or ()),
        bits=tuple(bits or ()),
        subjects=tuple(subject or ()),
        seeds=seeds,
        steps=steps,
        samples=samples,
        quick=quick,
        threads=threads,
        out=out,
        as_json=json,
    )


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="A model with a training recipe, such as digits-unet.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, manifest and card.")] = Path("trained"),
    steps: Annotated[int | None, typer.Option(help="Replaces the recipe's number of steps.")] = None,
    resume: Annotated[bool, typer.Option(help="Continue from a checkpoint in the folder.")] = True,
) -> None:
    """Train a model by its recipe, the way the shipped weights were made."""
    from simulator.models.training import train as train_model

    print(f"wrote {train_model(model, out, steps=steps, resume=resume)}")


@app.command()
def quality(
    model: ModelOption = "digits-unet",
    scheme: Annotated[list[str] | None, typer.Option(help=f"{SCHEMES_HELP} [default: w8a8, w4a8, w4a4]")] = None,
    sampler: SamplerOption = "ddim",
    knob: KnobOption = None,
    steps: StepsOption = 50,
    eta: EtaOption = None,
    samples: Annotated[int, typer.Option(help="Samples of each set; publish numbers of 10000 or more.")] = 1280,
    seed: SeedOption = 0,
    calibration_samples: CalibrationOption = 256,
    ptqd: Annotated[bool, typer.Option("--ptqd", help="Draw every scheme with PTQD's correction, too.")] = False,
    features: Annotated[
        str, typer.Option(help="digits-classifier, a safetensors file of Inception-v3 weights, or module:factory.")
    ] = "digits-classifier",
    real: Annotated[
        str | None,
        typer.Option(help="digits, none, or a safetensors file of images. [default: digits for shipped models]"),
    ] = None,
    allow_small: Annotated[
        bool, typer.Option("--allow-small", help="Frechet distances from fewer than 20 samples per dimension, flagged.")
    ] = False,
    conditioning: ConditioningOption = None,
    guidance: GuidanceOption = 1.0,
    threads: ThreadsOption = None,
    out: OutOption = Path("results"),
    json: JsonOption = False,
) -> None:
    """Draw samples in full precision and under schemes on shared noise; print how far they are from data and floors."""
    from studies.quality.command import run_quality

    run_quality(
        model=model, schemes=tuple(scheme or ()), sampler=sampler, knobs=tuple(knob or ()), steps=steps,
        eta=eta, samples=samples, seed=seed, calibration_samples=calibration_samples, ptqd=ptqd,
        features=features, real=real, allow_small=allow_small, conditioning=conditioning, guidance=guidance,
        threads=threads, out=out, as_json=json,
    )  # fmt: skip


@app.command()
def export_onnx(
    model: Annotated[str, typer.Argument(help="A shipped model, with @version to pin one.")],
    scheme: Annotated[str, typer.Option(help="An 8-bit scheme with a weight scale per output channel.")] = "w8a8",
    output: Annotated[Path | None, typer.Option(help="The file. [default: MODEL-SCHEME.onnx]")] = None,
    sampler: SamplerOption = "ddim",
    knob: KnobOption = None,
    steps: StepsOption = 50,
    eta: EtaOption = None,
    seed: SeedOption = 0,
    calibration_samples: CalibrationOption = 256,
    threads: ThreadsOption = None,
    replace: Annotated[bool, typer.Option(help="Replace the file if it exists.")] = False,
    check: Annotated[
        int, typer.Option(help="Samples to draw with onnxruntime, every pass compared with the simulator's.", min=0)
    ] = 0,
) -> None:
    """Write the calibrated, quantized model as ONNX: int8 operators between QuantizeLinear and DequantizeLinear."""
    from studies.export import run_export

    same = run_export(
        model=model, scheme=scheme, output=output, replace=replace, check=check, sampler=sampler,
        knobs=tuple(knob or ()), steps=steps, eta=eta, seed=seed, calibration_samples=calibration_samples,
        threads=threads,
    )  # fmt: skip
    if not same:
        raise typer.Exit(1)


@app.command()
def sites(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    scheme: Annotated[list[str] | None, typer.Option(help=f"{SCHEMES_HELP} [default: w8a8, w4a8, w4a4]")] = None,
    steps: StepsOption = 50,
    allow_float: Annotated[
        list[str] | None, typer.Option(help="Pattern of sites and modules that stay in float; repeat for several.")
    ] = None,
    conditioning: ConditioningOption = None,
    guidance: GuidanceOption = 1.0,
    json: JsonOption = False,
) -> None:
    """Print every contraction, what schemes make of it, and what they cost: MACs, bit operations, weight bytes."""
    from studies.sites import show_sites

    show_sites(
        model=model, schemes=tuple(scheme or ()), steps=steps, allow_float=tuple(allow_float or ()),
        conditioning=conditioning, guidance=guidance, as_json=json,
    )  # fmt: skip


@app.command()
def predict(
    model: ModelOption = "digits-unet",
    scheme: Annotated[list[str] | None, typer.Option(help=f"{SCHEMES_HELP} [default: w8a8, w6a6, w4a8]")] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            help="As run, such as ddim:0.5 or ddpm:fixed_large; repeat for several. "
            "[default: ddim:0, ddim:0.5, ddim:1, ddpm:fixed_large]"
        ),
    ] = None,
    steps: Annotated[list[int] | None, typer.Option(help="Repeat for several. [default: 10, 20, 50, 100]")] = None,
    standard_error: Annotated[
        float, typer.Option(help="Of each measured SQNR, dB: samples are added until then.")
    ] = 0.1,
    most_samples: Annotated[int, typer.Option(help="Samples measured at most.")] = 8192,
    prediction_standard_error: Annotated[
        float, typer.Option(help="Of each prediction, dB: samples are added until then.")
    ] = 0.25,
    most_prediction_samples: Annotated[int, typer.Option(help="Samples that a prediction is made on at most.")] = 4096,
    other_samples: Annotated[int, typer.Option(help="The same of the predictors it is compared with.")] = 128,
    calibration_samples: CalibrationOption = 8192,
    seed: SeedOption = 0,
    conditioning: ConditioningOption = None,
    guidance: GuidanceOption = 1.0,
    threads: ThreadsOption = None,
    out: OutOption = Path("results"),
    json: JsonOption = False,
) -> None:
    """Predict the final sample's noise from injected noise, and hold it against measurements over a grid."""
    from studies.prediction.grid import run_grid

    run_grid(
        model=model, schemes=tuple(scheme or ()), samplers=tuple(sampler or ()), steps=tuple(steps or ()),
        conditioning=conditioning, guidance=guidance, threads=threads, out=out, as_json=json,
        standard_error=standard_error, most_samples=most_samples, prediction_standard_error=prediction_standard_error,
        most_prediction_samples=most_prediction_samples, other_samples=other_samples,
        calibration_samples=calibration_samples, seed=seed,
    )  # fmt: skip


@app.command()
def predict_layers(
    model: ModelOption = "digits-unet",
    scheme: Annotated[list[str] | None, typer.Option(help=f"{SCHEMES_HELP} [default: w8a8, w6a6, w4a8, w4a4]")] = None,
    sampler: SamplerOption = "ddim",
    knob: KnobOption = None,
    steps: StepsOption = 10,
    eta: EtaOption = None,
    samples: Annotated[int, typer.Option(help="Samples to observe operands on, and as many others to judge by.")] = 64,
    seed: SeedOption = 0,
    calibration_samples: CalibrationOption = 256,
    conditioning: ConditioningOption = None,
    guidance: GuidanceOption = 1.0,
    threads: ThreadsOption = None,
    out: OutOption = Path("results"),
    json: JsonOption = False,
) -> None:
    """Predict each site's noise from ranges and bits, measure it, and say which assumption failed where they differ."""
    from studies.predict_layers import run_predict_layers

    run_predict_layers(
        model=model, schemes=tuple(scheme or ()), sampler=sampler, knobs=tuple(knob or ()), steps=steps,
        eta=eta, samples=samples, seed=seed, calibration_samples=calibration_samples, conditioning=conditioning,
        guidance=guidance, threads=threads, out=out, as_json=json,
    )  # fmt: skip


@app.command()
def precision(
    candidates: Annotated[
        list[str] | None, typer.Argument(help="Schemes to choose from. [default: w8a5 w8a6 w8a7 w8a8]")
    ] = None,
    model: ModelOption = "digits-unet",
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="ptqd-power, ptqd-amplitude, sigmoid, exact or greedy; repeat for several. [default: all that apply]"
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Of exact and greedy: a candidate's name for its BOPs, or a share of the dearest one's; repeat for "
            "several. [default: every candidate between the cheapest and the dearest]"
        ),
    ] = None,
    margin: Annotated[float, typer.Option(help="dB added to PTQD's threshold.")] = 0.0,
    parts: Annotated[
        int | None, typer.Option(help="Ranges of steps that choose together. [default: every step by itself]")
    ] = None,
    base_bits: Annotated[int | None, typer.Option(help="b of b + 2 sigmoid. [default: the least width]")] = None,
    importance: Annotated[
        str, typer.Option(help="one-step, log-one-step, injected, noise-to-signal or final.")
    ] = "one-step",
    rounding: Annotated[str, typer.Option(help="floor, nearest, ceil or stochastic.")] = "nearest",
    gains: Annotated[
        str, typer.Option(help="How noise reaches the final sample: network, gaussian, sampler, one-step or uniform.")
    ] = "network",
    data_variance: Annotated[float, typer.Option(help="Of one element of the data, for gaussian gains.")] = 1.0,
    group: Annotated[
        list[str] | None,
        typer.Option(help="name=pattern,pattern: sites that choose apart from the rest; repeat for several."),
    ] = None,
    range_sets: Annotated[int, typer.Option(help="Ranges of steps whose activation ranges are calibrated apart.")] = 1,
    quality_samples: Annotated[
        int, typer.Option(help="Samples of each policy whose Frechet distance is measured, as in quality; 0 for none.")
    ] = 0,
    sampler: SamplerOption = "ddim",
    knob: KnobOption = None,
    steps: StepsOption = 50,
    eta: EtaOption = None,
    samples: Annotated[int, typer.Option(help="Samples to evaluate.")] = 64,
    seed: SeedOption = 0,
    calibration_samples: CalibrationOption = 256,
    conditioning: ConditioningOption = None,
    guidance: GuidanceOption = 1.0,
    threads: ThreadsOption = None,
    out: OutOption = Path("results"),
    json: JsonOption = False,
) -> None:
    """Choose a bit width for each sampling step by published rules and under budgets; run the policies and compare."""
    from studies.precision.command import run_precision

    run_precision(
        candidates=tuple(candidates or ()), groups=tuple(group or ()), out=out, as_json=json, model=model,
        sampler=sampler, knobs=tuple(knob or ()), steps=steps, eta=eta,
        samples=samples, seed=seed, calibration_samples=calibration_samples, conditioning=conditioning,
        guidance=guidance, threads=threads,
        options={
            "rules": tuple(rule or ()), "budgets": tuple(budget or ()), "margin_db": margin, "parts": parts,
            "base_bits": base_bits, "importance": importance, "rounding": rounding, "gains": gains,
            "data_variance": data_variance, "range_sets": range_sets, "quality_samples": quality_samples,
        },
    )  # fmt: skip


@app.command()
def correct(
    model: ModelOption = "digits-unet",
    scheme: Annotated[str, typer.Option(help="A short string (w4a8) or a TOML file.")] = "w4a8",
    correction: Annotated[
        list[str] | None,
        typer.Option(help="A correction; repeat for several. [default: PTQD with and without absorption, D2-DPM, TAC]"),
    ] = None,
    sampler: SamplerOption = "ddim",
    knob: KnobOption = None,
    steps: StepsOption = 50,
    eta: EtaOption = None,
    samples: Annotated[int, typer.Option(help="Held-out samples to evaluate.")] = 256,
    seed: SeedOption = 0,
    calibration_samples: CalibrationOption = 256,
    conditioning: ConditioningOption = None,
    guidance: GuidanceOption = 1.0,
    threads: ThreadsOption = None,
    out: OutOption = Path("results"),
    json: JsonOption = False,
) -> None:
    """Fit corrections on calibration samples, judge them on others: injected noise, one-step variance, final SQNR."""
    from studies.corrections.command import run_correct

    run_correct(
        model=model, scheme=scheme, corrections=tuple(correction or ()), sampler=sampler,
        knobs=tuple(knob or ()), steps=steps, eta=eta, samples=samples, seed=seed,
        calibration_samples=calibration_samples, conditioning=conditioning, guidance=guidance, threads=threads,
        out=out, as_json=json,
    )  # fmt: skip


@app.command()
def feasibility(
    model: ModelOption = "digits-unet",
    beta_schedule: Annotated[
        str | None, typer.Option(help="linear, scaled_linear or squaredcos_cap_v2 (1000 steps) in place of a model's.")
    ] = None,
    beta_start: Annotated[float, typer.Option(help="Of --beta-schedule.")] = 1e-4,
    beta_end: Annotated[float, typer.Option(help="Of --beta-schedule.")] = 0.02,
    eta: Annotated[list[float] | None, typer.Option(help="Repeat for several. [default: 0.2, 0.5, 1]")] = None,
    steps: Annotated[
        list[int] | None, typer.Option(help="Sampling steps; repeat for several. [default: 10, 20, 50, 100, 250]")
    ] = None,
    steps_offset: Annotated[int, typer.Option(help="Added to the timesteps.")] = 0,
    set_alpha_to_one: Annotated[bool, typer.Option(help="What the last step leads to.")] = True,
    measured: Annotated[
        Path | None, typer.Option(help="A run's file without a correction: its residual noise is drawn over the map.")
    ] = None,
    out: OutOption = Path("results"),
    json: JsonOption = False,
) -> None:
    """Map how much residual noise each step's own noise can stand in for (variance absorption), for DDIM at any eta."""
    from studies.corrections.feasibility import run_feasibility

    run_feasibility(
        model=model, beta_schedule=beta_schedule, beta_start=beta_start, beta_end=beta_end, etas=tuple(eta or ()),
        steps=tuple(steps or ()), steps_offset=steps_offset, set_alpha_to_one=set_alpha_to_one, measured=measured,
        out=out, as_json=json,
    )  # fmt: skip


app.command()(plot)
app.command()(table)
app.command()(report)


def main() -> None:
    """Entry point: 0 done, 1 a check failed, 2 bad input or environment, 130 interrupted (typer's own exit code)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both clean up; a shell's background job ignores SIGINT
    try:
        app()
    except QnoiseError as error:
        print(f"qnoise: {error}", file=sys.stderr)
        sys.exit(2)
    except MemoryError as error:
        print(f"qnoise: the job must fit in memory, got {error}; use fewer samples or steps", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
