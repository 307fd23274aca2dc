"""TDQ: its FID and Inception Score."""

from studies.claims.claim import UntestableClaim
from studies.recipes.known.tdq_qat import RECIPE

CLAIM = UntestableClaim(
    "tdq-images",
    "Trained at W4A4 it has FID 4.48 on CIFAR-10 and 4.64 on churches, where LSQ has 7.30 and 5.06.",
    RECIPE.source,
    "FID and Inception Score of 50,000 images",
    "It needs CIFAR-10 and LSUN models and 200,000 training iterations; the lead itself is tested on the digits.",
)
