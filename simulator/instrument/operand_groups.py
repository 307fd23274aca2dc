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
            group = _channel_by_channel(low, facts, role, where)
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


def _channel_by_channel(low: np.ndarray, facts: SiteFacts, role: str, where: str) -> np.ndarray:
    """Every channel, or head and channel, its own group; bounds have the operand's rank."""
    axis = _channel_axis(facts, role) + low.ndim
    heads = (axis - 1 if role == VALUE else axis - 2,) if role in ATTENTION_ROLES and low.ndim > 2 else ()
    if any(n > 1 and i not in (*heads, axis) for i, n in enumerate(low.shape)):
        raise BadInput(
            "bounds of an operand without groups must lie along its channels, and heads",
            got=f"shape {low.shape} at {where}",
            fix="calibrate with PerHeadChannel(), which for the value of P V are its features, not its keys",
        )
    many = [low.shape[i] for i in heads if low.shape[i] > 1]
    return np.arange(low.size).reshape(*many, low.shape[axis])


def _channel_axis(facts: SiteFacts, role: str) -> int:
    """From the end."""
    if facts.key.operation.startswith("conv"):
        return 1 - len(facts.shapes[0])
    return -2 if role == VALUE else -1


def _require_channels(group: np.ndarray, facts: SiteFacts, role: str, where: str) -> None:
    shape = facts.shapes[facts.roles.index(role)]
    channels = shape[_channel_axis(facts, role)]
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
        if own.group.ndim == 1:
            every = own.group.reshape(-1, facts.contracted or len(own.group))
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
