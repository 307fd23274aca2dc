"""How many samples a wanted precision takes, from the interval that some samples gave."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from samplers.errors import BadInput
from samplers.validation import require_real


def samples_needed(result: xr.Dataset, name: str, *, relative: float = 0.1, floor: float = 0.0) -> xr.DataArray:
    """Samples for an interval whose half-width is ``relative`` times the size of the estimate.

    n' = n (half-width / (relative max(|estimate|, floor)))^2, rounded up: standard errors fall with the root of the
    number of samples, all else equal. An estimate near 0 needs endlessly many, so a floor names the size below which it
    does not matter.

    Args:
        result: what a function of this package returned for one run.
        name: of a quantity in it, with its interval.
        relative: wanted half-width as a share of the estimate.
        floor: least size that the share is taken of, in the quantity's unit.

    Returns:
        Counts with the quantity's dimensions, float64, NaN where the interval is undefined.

    Raises:
        BadInput: no such quantity, or the result does not say how many samples it had.
    """
    require_real("relative", relative)
    if not {name, f"{name}_low", f"{name}_high"} <= set(result):
        found = sorted(str(one).removesuffix("_low") for one in result if str(one).endswith("_low"))
        raise BadInput("name must be a quantity with an interval", got=repr(name), fix=f"one of {', '.join(found)}")
    if relative <= 0:
        raise BadInput("relative must be above 0", got=relative, fix="use 0.1 for 10 %")
    if "config" not in result.attrs:
        raise BadInput("the result must be that of one run", got="no configuration", fix="analyse runs one by one")
    samples = json.loads(result.attrs["config"])["samples"]
    half = (result[f"{name}_high"] - result[f"{name}_low"]) / 2
    wanted = relative * abs(result[name]).clip(min=floor)
    needed = np.ceil(samples * (half / wanted.where(wanted > 0)) ** 2)
    definition = f"n (half-width / ({relative:g} |{name}|))^2, from n = {samples}"
    return needed.assign_attrs(units="1", long_name="samples needed", definition=definition)
