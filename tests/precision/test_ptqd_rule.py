"""Claim: PTQD's rule takes the least width whose SQNR exceeds the stated threshold, else the largest, and how surely.

Power ratios: abar = 0.5 has SNR^F = 1, 0 dB in either reading; abar = 100/101 has SNR^F = 100, which is 20 dB read as a
power and 40 dB read as an amplitude.
"""

from __future__ import annotations

import numpy as np
import pytest
from precision_tables import candidates, planted_table

from noise_models.precision.ptqd_rule import ptqd_policy
from samplers.errors import BadInput

CHOSEN = candidates("w4a8", "w4a4", "w4a6")  # in no order
ABAR = [0.5, 0.5, 100 / 101, 100 / 101]
SQNR = [[30.0, 1.0, 9.0], [30.0, -1.0, 9.0], [30.0, 10.0, 20.5], [30.0, 12.0, 19.5]]


def bits(**options) -> list[int]:
    return ptqd_policy(CHOSEN, planted_table(CHOSEN, SQNR, abar=ABAR), **options).activation_bits[:, 0].tolist()


def test_ptqd_policy__takes_the_least_sufficient_width_in_either_reading() -> None:
    assert bits() == bits(reading="power") == [4, 6, 6, 8]
    assert bits(reading="amplitude") == [4, 6, 8, 8]  # 40 dB: none suffices, so the largest


def test_ptqd_policy__adds_the_margin_in_db() -> None:
    assert bits(margin_db=0.999) == [4, 6, 8, 8]
    assert bits(margin_db=1.001) == [6, 6, 8, 8]
    assert bits(margin_db=-9.5) == [4, 4, 6, 4]


def test_ptqd_policy__needs_more_than_the_threshold_itself() -> None:
    table = planted_table(CHOSEN, [[30.0, 0.0, 5.0]], abar=[0.5])
    assert ptqd_policy(CHOSEN, table).activation_bits.tolist() == [[6]]


def test_ptqd_policy__of_ranges_needs_a_width_that_suffices_at_every_step_of_the_range() -> None:
    assert bits(parts=2) == [6, 6, 8, 8]
    assert bits(parts=1) == [8] * 4
    assert bits(parts=4) == bits()
    assert bits(parts=3) == [6, 6, 6, 8]  # ranges 0..1, 2, 3
    for parts in (0, 5, 1.5):
        with pytest.raises(BadInput, match="parts must be 1 to 4"):
            bits(parts=parts)


def test_ptqd_policy__of_groups_chooses_in_each() -> None:
    chosen = candidates("w4a4", "w4a8", groups={"attention": ("@attention",)})
    table = planted_table(chosen, [[[1.0, 9.0], [-1.0, 9.0]], [[-1.0, 9.0], [-1.0, -9.0]]])
    policy = ptqd_policy(chosen, table)
    assert policy.activation_bits.tolist() == [[4, 8], [8, 8]]


def test_ptqd_policy__can_ask_for_the_lower_end_and_records_what_intervals_say() -> None:
    table = planted_table(CHOSEN, SQNR, abar=ABAR, half=2.0)
    policy = ptqd_policy(CHOSEN, table, bound="low")
    assert policy.activation_bits[:, 0].tolist() == [6, 6, 8, 8]
    # against 0, 0, 20, 20 dB, in the order a8, a4, a6
    assert policy.details.verdict[:, 0].values.tolist() == [[2, 1, 2], [2, 1, 2], [2, 0, 1], [2, 0, 1]]
    np.testing.assert_allclose(policy.details.threshold_db, [0, 0, 20, 20], atol=1e-12)


def test_ptqd_policy__takes_no_noise_at_all_as_sufficient() -> None:
    table = planted_table(CHOSEN, [[30.0, np.inf, 9.0]], abar=[0.5], half=np.nan)
    policy = ptqd_policy(CHOSEN, table)
    assert policy.activation_bits.tolist() == [[4]]
    assert policy.details.verdict[0, 0, 1] == 2
    with pytest.raises(BadInput, match="NaN for w4a8 at step 0, group all"):
        ptqd_policy(CHOSEN, table, bound="low")


def test_ptqd_policy__of_one_candidate_is_that_one() -> None:
    one = candidates("w4a4")
    assert ptqd_policy(one, planted_table(one, [[-50.0], [50.0]])).activation_bits.tolist() == [[4], [4]]


@pytest.mark.parametrize("names", [("w4a4", "w8a8"), ("w4a4", "w4a4-dyn")])
def test_ptqd_policy__refuses_candidates_that_differ_otherwise_than_in_activation_bits(names) -> None:
    chosen = candidates(*names)
    with pytest.raises(BadInput, match="at one weight width"):
        ptqd_policy(chosen, planted_table(chosen, [[1.0, 2.0]]))


def test_ptqd_policy__refuses_nan_and_unknown_options() -> None:
    table = planted_table(CHOSEN, [[30.0, np.nan, 9.0]])
    with pytest.raises(BadInput, match="NaN for w4a4 at step 0"):
        ptqd_policy(CHOSEN, table)
    for options in ({"reading": "both"}, {"bound": "high"}, {"margin_db": "2"}):
        with pytest.raises(BadInput):
            bits(**options)
