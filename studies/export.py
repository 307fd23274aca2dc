"""``qnoise export-onnx``: calibrate, write the quantized model as ONNX, compare it with the simulator on request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput

if TYPE_CHECKING:
    from simulator.onnx_export.trajectories import Trajectories


def run_export(*, model: str, scheme: str, output: Path | None, replace: bool, check: int, **options: Any) -> bool:
    """Write the file; whether every compared site gave the simulator's codes (True where none was compared).

    Raises:
        BadInput: before the work, a scheme that is not 8 bits, a file that exists, a folder that cannot be written, a
            missing package, an option that breaks its rule.
    """
    import torch  # noqa: F401 - before any kernel, as in ``qnoise run``

    from simulator.instrument.plan import Plan
    from simulator.instrument.scheme import Scheme
    from simulator.instrument.survey import survey
    from simulator.models.registry import load
    from simulator.onnx_export.packages import require_package
    from simulator.onnx_export.site import deployed_sites, require_byte_plan
    from simulator.threads import set_threads
    from studies.console import progress
    from studies.main_job import job_from_options

    parsed = Scheme.parse(scheme)
    require_package("onnx", "an ONNX export")
    if check:
        require_package("onnxruntime", "a check of an export")
    job = job_from_options(model=model, schemes=(scheme,), samples=max(check, 1), **options)
    loaded = load(model)
    require_byte_plan(Plan(parsed, survey(loaded)))
    (part,) = job.parts
    sampler = part.build(loaded, job.num_inference_steps)
    path = output or Path(f"{loaded.name}-{parsed}.onnx")
    _require_target(path, replace)
    set_threads(job.threads)

    from simulator.calibration.trajectory import calibrate_ranges
    from simulator.instrument.quantized import QuantizedModel
    from simulator.onnx_export.export import export_model

    with progress() as report:
        ranges = calibrate_ranges(
            loaded, sampler, outputs=True, samples=job.calibration_samples, seed=job.seed, batch_size=job.batch_size,
            progress=lambda done, total: report("calibrating ranges", done, total),
        )  # fmt: skip
        quantized = QuantizedModel(loaded, parsed, ranges)
        sites = deployed_sites(quantized)
        exported = export_model(quantized, sites)
        _publish(path, exported.SerializeToString(), replace)
        print(f"wrote {path}: {len(sites)} integer sites")
        if not check:
            return True
        from simulator.onnx_export.runtime import Session
        from simulator.onnx_export.trajectories import compare_trajectories

        found = compare_trajectories(
            quantized, Session(exported, sites), sampler, samples=check, seed=job.seed,
            progress=lambda done, total: report("comparing with onnxruntime", done, total),
        )  # fmt: skip
    _show(found)
    return found.mismatches == 0


def _require_target(path: Path, replace: bool) -> None:
    """Raise BadInput unless a file can be put there."""
    if path.exists() and not replace:
        raise _exists(path)
    if path.is_dir() or not os.access(path.resolve().parent, os.W_OK):
        raise BadInput("an export must be a file in a writable folder", got=str(path), fix="name another with --output")


def _publish(path: Path, content: bytes, replace: bool) -> None:
    """The whole file or none: written beside ``path``, then renamed, or linked where nothing may be replaced."""
    try:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        got = f"{path} ({error.strerror})"
        raise BadInput("an export must be writable", got=got, fix="name another file with --output") from None


def _exists(path: Path) -> BadInput:
    return BadInput(
        "an export replaces no file unasked", got=str(path), fix="use --replace, or name another with --output"
    )


def _show(found: Trajectories) -> None:
    from studies.console import print_table

    unequal = [one.comparison for one in found.passes if one.comparison.differing]
    largest = max((one.largest for one in unequal), default=0.0)
    print(f"sites, given the same operands: {found.mismatches} of {found.elements} codes differ")
    print(f"whole networks: {len(unequal)} of {len(found.passes)} outputs differ, by at most {largest:.3g}")
    print(f"final samples: {found.unequal} of {found.samples} differ, by at most {found.largest:.3g}")
    if found.firsts:
        header = ["first operand whose codes differ", "passes", "codes", "by at most", "steps from a tie, at most"]
        rows = [
            [f"{row.site} {row.role}", str(row.passes), str(row.codes), str(row.largest), f"{row.from_tie:.1e}"]
            for row in found.firsts
        ]
        print_table("Where differences begin", header, rows)
