"""``qnoise sites``: what a network contracts, what schemes make of it, and what they cost."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput
from studies.job import DEFAULT_SCHEMES

if TYPE_CHECKING:
    from simulator.instrument.accounting import Account, SiteCost
    from simulator.instrument.coverage import Coverage
    from simulator.instrument.survey import SiteFacts
    from simulator.models.conditioning import Conditioning
    from simulator.models.registry import Model


def show_sites(
    *, model: str, schemes: tuple[str, ...], steps: int, allow_float: tuple[str, ...], as_json: bool,
    conditioning: Path | None = None, guidance: float = 1.0,
) -> None:  # fmt: skip
    """Print the site table and totals of a network under schemes, or both as JSON.

    A latent model's decoder, which stays in float, is not counted.

    Raises:
        BadInput: an unknown model, a scheme that is none or that the network cannot have, schemes of one name, more
            steps than the model has timesteps, conditions that the network does not take.
        UncoveredContraction: a contraction outside sites that ``allow_float`` does not name.
    """
    import torch  # noqa: F401 - before any kernel, so that both use torch's OpenMP pool

    from simulator.instrument.accounting import account
    from simulator.instrument.plan import Plan
    from simulator.instrument.scheme import Scheme
    from simulator.instrument.survey import survey
    from simulator.models.conditioning import Conditioning

    parsed = [Scheme.parse(text) for text in schemes or DEFAULT_SCHEMES]
    if len({str(scheme) for scheme in parsed}) < len(parsed):
        raise BadInput("schemes must differ", got=", ".join(map(str, parsed)), fix="name each once")
    if conditioning is None and guidance != 1:
        raise BadInput("guidance needs conditions", got=f"--guidance {guidance:g} alone", fix="add --conditioning")
    given = None if conditioning is None else Conditioning.from_file(conditioning, weight=guidance)
    network = _load(model)
    most = 1000 if network.schedule is None else network.schedule.num_train_timesteps
    if not 1 <= steps <= most:
        raise BadInput(f"steps must be 1 to {most}, the model's timesteps", got=steps, fix="use fewer, at least one")
    sites = survey(network, allow_float=allow_float, conditioning=given)
    accounts = [account(Plan(scheme, sites), network.module, steps=steps) for scheme in parsed]
    outside = _outside(network, allow_float, given)
    if as_json:
        print(json.dumps(_summary(network, sites, accounts, outside), indent=1, allow_nan=False))
    else:
        _print(network, sites, accounts, outside)


def _load(model: str) -> Model:
    from simulator.models.loading import is_factory, load
    from studies.main_job import put_working_folder_on_path

    if is_factory(model):
        put_working_folder_on_path()
    return load(model)


def _outside(network: Model, allow_float: tuple[str, ...], given: Conditioning | None) -> Coverage | None:
    """What ran in float or unseen in a pass of one sample; None where nothing may."""
    import torch

    from simulator.instrument.coverage import Coverage, Done, cover
    from simulator.models.conditioning import call_for

    if not allow_float:
        return None
    x, timestep = torch.zeros(1, *network.sample_shape), torch.zeros(1, dtype=torch.long)
    seen = cover(network.module, x, timestep, call=call_for(network, given, range(1)), allow_float=allow_float)
    return Coverage(tuple(entry for entry in seen.entries if entry.done is not Done.HANDLED))


def _summary(
    network: Model, sites: tuple[SiteFacts, ...], accounts: list[Account], outside: Coverage | None
) -> dict[str, Any]:
    first = accounts[0]
    return {
        "model": f"{network.name}@{network.version}",
        "steps": first.steps,
        "macs": first.macs,
        "float32": {"bops": first.float_bops, "weight_bytes": first.weights.baseline},
        "sites": [
            {
                "site": str(facts.key),
                "operands": [list(shape) for shape in facts.shapes[:-1]],
                "output": list(facts.shapes[-1]),
                "macs": facts.macs,
                "per_sample": facts.batched,
            }
            for facts in sites
        ],
        "outside_sites": [
            {"name": entry.site, "done": entry.done.value, "macs": entry.macs} for entry in outside.entries
        ] if outside else [],
        "schemes": [_scheme(found) for found in accounts],
    }  # fmt: skip


def _scheme(found: Account) -> dict[str, Any]:
    weights = found.weights
    return {
        "scheme": found.scheme,
        "bops": list(found.bops) if len(found.passes) > 1 else found.bops[0],
        "total_bops": found.total_bops,
        "bops_ratio": found.bops_ratio,
        "weight_bytes": {
            "codes": weights.codes, "scales": weights.scales, "rest": weights.rest, "total": weights.total,
            "ratio": weights.ratio if weights.baseline else None,
        },
        "computed_weights": list(found.computed),
        "sites": [
            {
                "site": str(cost.site), "steps": [start, stop], "treatment": cost.how, "bits": list(cost.bits),
                "bops": cost.bops, "weight_bytes": cost.weight_bytes,
            }
            for costs in zip(*found.passes, strict=True)
            for start, stop, cost in _runs(costs, found.steps)
        ],
    }  # fmt: skip


def _runs(costs: tuple[SiteCost, ...], steps: int) -> list[tuple[int, int, SiteCost]]:
    """A site's costs by step as runs of equal ones: first step, one past the last, cost."""
    if len(costs) == 1:
        return [(0, steps, costs[0])]
    found, start = [], 0
    for cost, group in groupby(costs):
        stop = start + len(list(group))
        found.append((start, stop, cost))
        start = stop
    return found


def _print(network: Model, sites: tuple[SiteFacts, ...], accounts: list[Account], outside: Coverage | None) -> None:
    from studies.console import print_table

    rows = []
    for index, facts in enumerate(sites):
        *operands, output = ("x".join(map(str, shape)) for shape in facts.shapes)
        cells = [_cell([costs[index] for costs in found.passes], found.steps) for found in accounts]
        once = "" if facts.batched else " once"
        rows.append([str(facts.key), f"{' . '.join(operands)} -> {output}", f"{facts.macs:,}{once}", *cells])
    if outside is not None:
        rows += [
            [entry.site, entry.done.value, "?" if entry.macs is None else f"{entry.macs:,}", *("-" for _ in accounts)]
            for entry in outside.entries
        ]
    title = f"Sites of {network.name}@{network.version}, shapes and multiply-accumulates of one sample"
    print_table(title, ["site", "operands and output", "MACs", *(found.scheme for found in accounts)], rows)
    first = accounts[0]
    baseline = first.weights.baseline
    header = ["scheme", "MACs", "BOPs", "to float32", "weight bytes", "codes", "scales", "rest", "to float32"]
    totals = [["float32", f"{first.macs:,}", f"{first.float_bops:,}", "1", f"{baseline:,}", "0", "0", f"{baseline:,}",
               "1"]]  # fmt: skip
    totals += [_totals(found) for found in accounts]
    print_table("Totals of one sample and one step", header, totals)
    print(f"over {first.steps} steps: {first.total_macs:,} MACs; BOPs "
          + ", ".join(f"{found.scheme} {found.total_bops:,}" for found in accounts))  # fmt: skip
    if network.decoder is not None:
        print("the decoder of latents stays in float and is not counted")
    if first.computed:
        print(f"weights computed in each pass, what they come from counted in float32: {', '.join(first.computed)}")
    if outside is not None:
        in_float = "?" if outside.float_macs is None else f"{outside.float_macs:,}"
        print(f"outside sites, in no total: {in_float} MACs in float; unknown: {', '.join(outside.unknown) or 'none'}")


def _cell(costs: list[SiteCost], steps: int) -> str:
    runs = _runs(tuple(costs), steps)
    if len(runs) == 1:
        return runs[0][2].how
    return ", ".join(f"{start}-{stop - 1}: {cost.how}" for start, stop, cost in runs)


def _totals(found: Account) -> list[str]:
    weights, least, most = found.weights, min(found.bops), max(found.bops)
    return [
        found.scheme,
        f"{found.macs:,}",
        f"{least:,}" if least == most else f"{least:,} to {most:,}",
        f"{found.bops_ratio:.4f}",
        f"{weights.total:,}",
        f"{weights.codes:,}",
        f"{weights.scales:,}",
        f"{weights.rest:,}",
        f"{weights.ratio:.4f}",
    ]
