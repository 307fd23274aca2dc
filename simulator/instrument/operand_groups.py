"""Scales of groups of channels from calibrated ranges, where a site's arithmetic has them."""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.quantizer import parameters_from_range
from simulator.calibration.ranges import Ranges
from simulator.instrument.contractions import PROBABILITY
from simulator.instrument.machines.channel_groups import VALUE, ChannelScales, parts_of
from simulator.instrument.scheme.settings import ActivationRange
from simulator.instrument.survey import SiteFacts
from simulator.instrument.treatment import Treatment

ATTENTION_ROLES = ("query", "key", VALUE)
"""Operands with heads."""


def calibrated_groups(
    treatment: Treatment, facts: SiteFacts, ranges: Ranges, step: int | None = None
) -> dict[str, ChannelScales]:
    """Parameters of every operand whose ranges hold bounds of channels or groups, by role.

    Raises:
        BadInput: more groups than the treatment allows; groups of other channels or heads than the operand has; groups
            that differ between the heads, or between the groups of a convolution; groups of which neither the weight's
            nor, in QK^T, the other operand's are parts, nor the other way round.
    """
    found = {}
    for role, operand in treatment.operands.items():
        if operand.groups == 1 or role == PROBABILITY or operand.range is not ActivationRange.STATIC:
            continue
        low, high = ranges.of(facts.key, role, step)
        if not low.ndim:
            continue
        where = f"{facts.key} {role}"
        group = ranges.grouping(facts.key, role, step)
        if group is None:
            group = np.arange(low.size).reshape([n for n in low.shape if n > 1] or [1])
        if operand.groups and low.size > operand.groups:
            raise BadInput(
                f"an operand may have at most {operand.groups} groups of channels",
                got=f"{low.size} at {where}",
                fix="allow more (activation_groups; 0 for any number), or calibrate with fewer",
            )
        _require_channels(group, facts, role, where)
        scale, zero_point = parameters_from_range(low.reshape(-1), high.reshape(-1), operand.spec)
        found[role] = ChannelScales(group.astype(np.int64), scale, zero_point)
    if any(role != VALUE for role in found):
        _require_matching(treatment, facts, found)
    return found


def _require_channels(group: np.ndarray, facts: SiteFacts, role: str, where: str) -> None:
    shape = facts.shapes[facts.roles.index(role)]
    image = facts.key.operation.startswith("conv")
    channels = shape[1] if image else shape[-2] if role == VALUE else shape[-1]
    if group.shape[-1] != channels:
        raise BadInput(
            f"groups must be of the operand's {channels} channels", got=f"{group.shape[-1]} at {where}",
            fix="calibrate with this model",
        )  # fmt: skip
    if group.ndim == 1:
        return
    axis = len(facts.shapes[-1]) - 3
    if role not in ATTENTION_ROLES or axis < 0 or (facts.batched and axis == facts.sample_axis):
        raise BadInput(
            "groups of heads need an operand of attention with an axis of heads", got=f"{shape} at {where}",
            fix="group its channels alone",
        )  # fmt: skip
    if shape[-3] != len(group):
        raise BadInput(
            f"groups must be of the operand's {shape[-3]} heads", got=f"{len(group)} at {where}",
            fix="calibrate with this model",
        )  # fmt: skip


def _require_matching(treatment: Treatment, facts: SiteFacts, found: dict[str, ChannelScales]) -> None:
    """Partial sums are those of one operand's groups."""
    labels = []
    for role, own in found.items():
        if role == VALUE:
            continue
        every = own.group
        if own.group.ndim == 1 and facts.contracted is not None:
            every = own.group.reshape(-1, facts.contracted)
        if any(not _same_parts(row, every[0]) for row in every) or (
            own.group.ndim == 1 and not (every == every[0]).all()
        ):
            raise BadInput(
                "channels must be grouped alike in all heads, or in all groups of a convolution",
                got=f"different groups at {facts.key} {role}",
                fix="use groups of heads, or groups that cut every head alike",
            )
        labels.append(every[0])
    size = treatment.weight.granularity.group_size(1) if treatment.weight is not None else None
    if size is not None:
        labels.append(np.arange(len(labels[0])) // size)
    if len(labels) > 1 and len(parts_of(labels)) > max(len(np.unique(each)) for each in labels):
        raise BadInput(
            "of two groupings of the contracted channels one must refine the other",
            got=f"groups at {facts.key} that cross those of {'the weight' if size else 'the other operand'}",
            fix="choose group_size so that it divides the groups, or group both operands alike",
        )


def _same_parts(one: np.ndarray, other: np.ndarray) -> bool:
    return len(parts_of([one, other])) == len(np.unique(one)) == len(np.unique(other))
