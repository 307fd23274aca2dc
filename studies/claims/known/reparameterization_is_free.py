"""PTQ4DiT: factors that are folded offline change nothing before quantization, and cost nothing afterwards.

An exact calculation but for salience, which the seed draws. 1e-5 of the largest output is a hundred times float32's
rounding, and far below the noise of any scheme; a thousandth more bit operations could not be timed.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.calibration.balancing.balance import balance
from simulator.calibration.balancing.rules import SalienceBalancing
from simulator.calibration.balancing.salience import collect_salience
from simulator.calibration.transforms.equivalence import largest_change
from simulator.instrument.accounting import account
from simulator.instrument.plan import Plan
from simulator.instrument.scheme import Scheme
from simulator.instrument.survey import survey
from simulator.models.registry import Model
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import subject
from studies.claims.verdict import Direction
from studies.recipes.known.ptq4dit import RECIPE


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """The network balanced as published, against the network."""
    model, sampler = subject(setting)
    salience = collect_salience(
        model, sampler, samples=setting.calibration_samples, seed=seed, batch_size=setting.batch_size
    )
    made = balance(model, salience, SalienceBalancing())
    return {
        "change": largest_change(model, made.model, samples=setting.samples, seed=seed),
        "bops": bit_operations(made.model) / bit_operations(model) - 1,
        "divisions": float(len(made.divided)),
    }


def bit_operations(model: Model) -> int:
    """Of one pass in W4A8."""
    return account(Plan(Scheme.parse("w4a8"), survey(model)), model.module).total_bops


CLAIM = Claim(
    "reparameterization-is-free",
    "Balancing factors are absorbed offline: the network's function stays, and inference costs nothing more.",
    RECIPE.source,
    (
        Endpoint(
            "change", "largest difference of float outputs over the largest output, balanced against not", "1",
            Direction.BELOW, 1e-5,
        ),
        Endpoint("bops", "bit operations of a pass in W4A8, balanced over not, minus 1", "1", Direction.BELOW, 1e-3),
        Endpoint("divisions", "layers that divide their input at run time", "1", Direction.BELOW, 0.5),
    ),
    (Setting("digits-dit", samples=64, calibration_samples=64),),
    measure,
)  # fmt: skip
