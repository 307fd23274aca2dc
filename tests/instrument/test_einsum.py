"""Claim: every einsum is torch's, whatever its indices; contractions are sites, everything else stays elementwise."""

from __future__ import annotations

import pytest
import torch
from torch_modules import Calls, Ignoring, keep_float

from samplers.errors import BadInput
from simulator.instrument.contractions import Linear, MatMul
from simulator.instrument.coverage import cover
from simulator.instrument.forward import forward

pytestmark = pytest.mark.usefixtures("one_thread")

T = torch.zeros(2, dtype=torch.long)
SIZES = dict(a=2, b=3, c=4, d=5, i=3, j=3, k=4, l=2, m=5, n=2, B=2, E=6)
# equation: multiply-accumulates of each site, in order
EQUATIONS = {
    "ab,bc->ac": [2 * 3 * 4],
    "ab,cb->ac": [2 * 3 * 4],
    "ab,bc->ca": [2 * 3 * 4],
    "ab,bc": [2 * 3 * 4],
    "cb,ab": [2 * 3 * 4],
    "Bij,Bkj->Bik": [2 * 3 * 3 * 4],
    "Bic,Bjc->Bij": [2 * 3 * 3 * 4],
    "iBk,jBk->jBi": [2 * 3 * 3 * 4],
    "abcd,dcE->abE": [2 * 3 * 4 * 5 * 6],
    "abcd,cdE->Eab": [2 * 3 * 4 * 5 * 6],
    "abcd,abcd->": [2 * 3 * 4 * 5],
    "abcd,abcd->ab": [2 * 3 * 4 * 5],
    "abcd,bd->ca": [2 * 3 * 4 * 5],
    "ab,b->a": [2 * 3],
    "b,ab": [2 * 3],
    "b,b": [3],
    "abc,cd,dE->abE": [2 * 3 * 4 * 5, 2 * 3 * 5 * 6],
    "ab,cd,bc->ad": [2 * 3 * 4 * 5],  # no index in common: the first pair is elementwise, the second contracts b and c
    "iij,jk->ik": [3 * 3 * 4],
    "iijj,jk->ik": [3 * 3 * 4],
    "iii,ik->k": [3 * 4],
    "abd,bc->ac": [2 * 3 * 4],  # d is summed before
    "abc,abd->abcd": [],
    "ab,ab->ab": [],
    "a,b->ab": [],
    "ab,c->abc": [],
    "ab,cd->ac": [],  # sums of each alone
    "abcd->dbca": [],
    "abc->b": [],
    "ii->i": [],
    "ii": [],
    "ab->": [],
    "nhwpqc->nchpwq": [],
    "...b,bc->...c": [2 * 3 * 3 * 4],
    "...ij,...kj->...ik": [2 * 3 * 3 * 3 * 4],
    "a...b,b...->a...": [2 * 3 * 2 * 3],
    "...,...": [],
    "...->...": [],
}


def operands(equation: str) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(len(equation))
    found = []
    for term in equation.replace(" ", "").split("->")[0].split(","):
        size = [n for c in term.replace("...", ".") for n in ((2, 3) if c == "." else (SIZES.get(c, 2),))]
        found.append(torch.randn(size, generator=generator))
    return found


def run(function, x: torch.Tensor):
    return forward(Ignoring(Calls(function)), keep_float, x, T)


def macs(function, x: torch.Tensor) -> list[int | None]:
    coverage = cover(Ignoring(Calls(function)), x, T)
    assert coverage.complete
    return [entry.macs for entry in coverage.entries]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum__is_torchs_with_the_multiply_accumulates_of_its_pairs(equation, mode):
    tensors = operands(equation)
    with mode():
        got = run(lambda x: torch.einsum(equation, *tensors), tensors[0])
        want = torch.einsum(equation, *tensors)
        assert got.shape == want.shape
        if EQUATIONS[equation]:
            assert torch.allclose(got, want, rtol=1e-5, atol=1e-5)
        else:
            assert torch.allclose(got, want, rtol=1e-6, atol=1e-6)
        assert macs(lambda x: torch.einsum(equation, *tensors), tensors[0]) == EQUATIONS[equation]


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("bij,bjk->bik", [(1, 3, 4), (5, 4, 2)], [5 * 3 * 4 * 2]),
        ("bij,bjk->bik", [(5, 3, 4), (1, 4, 2)], [5 * 3 * 4 * 2]),
        ("ij,jk->ik", [(3, 1), (4, 2)], []),  # j is summed in the second alone: no contraction is left
        ("ijl,jkl->ik", [(3, 1, 5), (4, 2, 5)], [3 * 2 * 5]),
        ("...ij,...jk->...ik", [(1, 2, 3, 4), (6, 1, 4, 5)], [6 * 2 * 3 * 4 * 5]),
        ("...ij,...jk->...ik", [(3, 4), (6, 7, 4, 5)], [42 * 3 * 4 * 5]),
        ("ab,ab->ab", [(1, 3), (4, 1)], []),
    ],
)
def test_einsum__broadcasts_axes_of_length_1(equation, shapes, expected):
    tensors = [torch.randn(shape) for shape in shapes]
    got = run(lambda x: torch.einsum(equation, *tensors), tensors[0])
    assert torch.allclose(got, torch.einsum(equation, *tensors), rtol=1e-5, atol=1e-5)
    assert macs(lambda x: torch.einsum(equation, *tensors), tensors[0]) == expected


def test_einsum__takes_sublists_and_lists_of_operands():
    a, b = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    want = torch.einsum("bij,bkj->bki", a, b)
    for function in (
        lambda x: torch.einsum(a, [0, 1, 2], b, [0, 3, 2], [0, 3, 1]),
        lambda x: torch.einsum("bij,bkj->bki", [a, b]),
        lambda x: torch.einsum("b i j, b k j -> b k i", a, b),
        lambda x: torch.einsum(a, [..., 1, 2], b, [..., 3, 2], [..., 3, 1]),
    ):
        assert torch.allclose(run(function, a), want, rtol=0, atol=1e-5)


def test_einsum__with_a_parameter_on_either_side_is_a_layer():
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(4, 5, 6))

        def forward(self, x, timestep):
            one = torch.einsum("bnd,dhe->bnhe", x, self.weight)
            return (
                one
                + torch.einsum("dhe,bnd->bnhe", self.weight, x)
                + torch.einsum("bnd,ndhe->bnhe", x, x.new_ones(3, 4, 5, 6))
            )

    module, x, seen = Layer(), torch.randn(2, 3, 4), []

    def note(site, contraction):
        seen.append(contraction)
        return contraction.float()

    got = forward(module, note, x, T)
    assert [type(c) for c in seen] == [Linear, Linear, MatMul]
    assert seen[0].weight.shape == (30, 4)
    assert seen[0].input.shape == (6, 4)
    assert torch.allclose(got, module(x, T), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("ab,bc->acc", [(2, 3), (3, 4)]), ("ab,bc->az", [(2, 3), (3, 4)]), ("ab,bc->ac", [(2, 3), (4, 4)]),
     ("ab->a", [(2, 3, 4)]), ("ab,bc->ac", [(2, 3)]), ("a1->a", [(2, 3)])],
)  # fmt: skip
def test_einsum__refuses_equations_that_do_not_fit(equation, shapes):
    tensors = [torch.randn(shape) for shape in shapes]
    with pytest.raises(BadInput):
        run(lambda x: torch.einsum(equation, *tensors), tensors[0])


def test_einsum__of_complex_operands_has_a_site_for_each_pair_of_parts():
    a, b = torch.randn(2, 3, dtype=torch.complex64), torch.randn(3, 4, dtype=torch.complex64)
    coverage = cover(Ignoring(Calls(lambda x: torch.einsum("ab,bc->ac", a, b))), a, T)
    names = ["real_real", "imag_imag", "real_imag", "imag_real"]
    assert [entry.site for entry in coverage.entries] == [f"body:einsum.{name}" for name in names]
    got = run(lambda x: torch.einsum("ab,bc->ac", a, b), a)
    assert torch.allclose(got, torch.einsum("ab,bc->ac", a, b), rtol=0, atol=1e-5)
