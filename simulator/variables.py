"""Every stored variable, named once: dimensions, unit, long name, definition.

Dimensions: ``step`` (loop index), ``site`` (contraction), ``channel``, ``block`` (replicate block: sample i is in block
i mod 64), ``sample``, ``moment``; ``shown``, ``row`` and ``column`` of the final images that are kept;
``kept`` of the first samples, where a run keeps epsilon and its noise whole. After decoding: ``image_channel``, and
``image``, ``image_row`` and ``image_column`` of the decoded images that are kept.

A ``moment`` entry is a mean (``mean_y``, ``mean_e``) or a central moment such as ``yye`` = mean of
(y - mean_y)^2 (e - mean_e); multiply by the count for the sum.
"""

from __future__ import annotations

from simulator.attribution_variables import ATTRIBUTION
from simulator.operand_variables import OPERANDS
from simulator.single_step_variables import ONE_STEP
from simulator.variable import INJECTED, Variable

_ACCUMULATED = "each network on its own trajectory, with shared initial and step noise"
_AFTER = "the prediction is taken after guidance, the quantized one also after correction"
_PASSES = "under guidance a sample's elements are those of its unconditional and of its conditional pass"
_DECODED = f"only of a latent model, whose decoder runs in float; {_ACCUMULATED}"

VARIABLES = (
    Variable("timestep", ("step",), "1", "training timestep", "training index t that the network is called with"),
    Variable("alpha_cumprod", ("step",), "1", "cumulative alpha", "alphas_cumprod at the step's timestep"),
    Variable(
        "alpha_cumprod_previous", ("step",), "1", "cumulative alpha after", "alphas_cumprod that the step leads to"
    ),
    Variable("a", ("step",), "1", "weight of x_t", "x_{t-1} = a x_t + b epsilon + c z, of the sampler itself"),
    Variable("b", ("step",), "1", "weight of epsilon", "see a"),
    Variable("c", ("step",), "1", "weight of fresh noise", "see a"),
    Variable("a_used", ("step",), "1", "weight of x_t after correction", "a in the quantized run's update"),
    Variable("b_used", ("step",), "1", "weight of epsilon after correction", "b in the quantized run's update"),
    Variable("c_used", ("step",), "1", "weight of fresh noise after correction", "c in the quantized run's update"),
    Variable(
        "epsilon_injected",
        ("step", "channel", "block", "moment"),
        "1",
        "injected noise of epsilon",
        f"joint moments of y = epsilon and e = quantized epsilon - epsilon, per element; {INJECTED}; {_AFTER}",
    ),
    Variable(
        "epsilon_accumulated",
        ("step", "channel", "block", "moment"),
        "1",
        "accumulated noise of epsilon",
        f"joint moments of y = epsilon and e = quantized epsilon - epsilon, per element; {_ACCUMULATED}; {_AFTER}",
    ),
    Variable(
        "x0_clipped_reference",
        ("step",),
        "1",
        "clipped elements of x0 in full precision",
        "elements of the predicted x0 that the sampler's clip_sample or thresholding changed, over all samples",
    ),
    Variable(
        "x0_clipped_accumulated",
        ("step",),
        "1",
        "clipped elements of x0 in the quantized run",
        f"as x0_clipped_reference; {_ACCUMULATED}",
    ),
    Variable(
        "state_saturated_accumulated",
        ("step",),
        "1",
        "elements at an end of the fixed-point range",
        "elements of the predicted x0 and of x_{t-1} at the smallest or largest code, over all samples; only of an arm "
        f"with a state of its own in fixed point; {_ACCUMULATED}",
    ),
    Variable("epsilon_count", ("channel", "block"), "1", "elements", "elements behind each epsilon and state moment"),
    Variable(
        "epsilon_sample_injected",
        ("step", "channel", "sample", "moment"),
        "1",
        "injected noise of epsilon per sample",
        "as epsilon_injected, over the elements of one sample",
    ),
    Variable(
        "epsilon_sample_accumulated",
        ("step", "channel", "sample", "moment"),
        "1",
        "accumulated noise of epsilon per sample",
        "as epsilon_accumulated, over the elements of one sample",
    ),
    Variable(
        "state_accumulated",
        ("step", "channel", "block", "moment"),
        "1",
        "accumulated noise of x_{t-1}",
        f"joint moments of y = x_{{t-1}} and e = quantized x_{{t-1}} - x_{{t-1}} after the step; {_ACCUMULATED}",
    ),
    Variable(
        "state_sample_accumulated",
        ("step", "channel", "sample", "moment"),
        "1",
        "accumulated noise of x_{t-1} per sample",
        "as state_accumulated, over the elements of one sample",
    ),
    Variable(
        "site_injected",
        ("step", "site", "block", "moment"),
        "1",
        "injected noise of a site's output",
        f"joint moments of y = float output and e = integer output - y, all sites before it quantized; {INJECTED}; "
        f"{_PASSES}",
    ),
    Variable(
        "site_accumulated",
        ("step", "site", "block", "moment"),
        "1",
        "accumulated noise of a site's output",
        f"joint moments of y = float output and e = integer output - y, all sites before it quantized; {_ACCUMULATED}; "
        f"{_PASSES}",
    ),
    Variable("site_count", ("site", "block"), "1", "elements", "elements behind each site moment"),
    Variable(
        "site_clipped_injected",
        ("step", "site"),
        "1",
        "clipped operand elements",
        "run-time operand elements whose code fell outside its range before clipping, over all samples, injected",
    ),
    Variable(
        "site_clipped_accumulated",
        ("step", "site"),
        "1",
        "clipped operand elements",
        "run-time operand elements whose code fell outside its range before clipping, over all samples, accumulated",
    ),
    Variable(
        "site_overflowed_injected",
        ("step", "site"),
        "1",
        "outputs that the register changed",
        "outputs of which the accumulator lost something, over all samples, injected; absent where none can",
    ),
    Variable(
        "site_saturated_injected",
        ("step", "site"),
        "1",
        "clipped output codes",
        "requantized outputs whose code fell outside its range before clipping, over all samples, injected; "
        "absent where nothing is requantized",
    ),
    Variable(
        "site_overflowed_accumulated",
        ("step", "site"),
        "1",
        "outputs that the register changed",
        "outputs of which the accumulator lost something, over all samples, accumulated; absent where none can",
    ),
    Variable(
        "site_saturated_accumulated",
        ("step", "site"),
        "1",
        "clipped output codes",
        "requantized outputs whose code fell outside its range before clipping, over all samples, accumulated; "
        "absent where nothing is requantized",
    ),
    Variable("site_operands", ("site",), "1", "operand elements", "run-time operand elements per sample and step"),
    Variable(
        "site_macs", ("site",), "1", "multiply-accumulates", "per sample and forward pass; both passes under guidance"
    ),
    Variable("site_weight_bits", ("site",), "bit", "weight bits", "0 where both operands are activations"),
    Variable("site_activation_bits", ("site",), "bit", "activation bits", "bits of the widest run-time operand"),
    Variable(
        "site_step_weight_bits",
        ("step", "site"),
        "bit",
        "weight bits",
        "as site_weight_bits, of schemes whose rules name steps",
    ),
    Variable(
        "site_weight_clipped",
        ("site",),
        "1",
        "clipped weight elements",
        "weight elements whose code fell outside its range before clipping; absent where no weight has given bounds",
    ),
    Variable(
        "site_step_weight_clipped",
        ("step", "site"),
        "1",
        "clipped weight elements",
        "as site_weight_clipped, of schemes whose rules name steps",
    ),
    Variable(
        "site_step_activation_bits",
        ("step", "site"),
        "bit",
        "activation bits",
        "as site_activation_bits, of schemes whose rules name steps",
    ),
    Variable(
        "epsilon_kept",
        ("step", "kept", "channel", "row", "column"),
        "1",
        "epsilon of kept samples",
        f"full-precision epsilon of the run's first samples, where a subsample was asked for; {_AFTER}",
    ),
    Variable(
        "noise_kept_injected",
        ("step", "kept", "channel", "row", "column"),
        "1",
        "injected noise of kept samples",
        f"e = quantized epsilon - epsilon of the run's first samples; {INJECTED}; {_AFTER}",
    ),
    Variable(
        "noise_kept_accumulated",
        ("step", "kept", "channel", "row", "column"),
        "1",
        "accumulated noise of kept samples",
        f"e = quantized epsilon - epsilon of the run's first samples; {_ACCUMULATED}; {_AFTER}",
    ),
    Variable(
        "sample_reference",
        ("shown", "channel", "row", "column"),
        "1",
        "final samples in full precision",
        "x_0 of the first samples, in the model's own scale",
    ),
    Variable(
        "sample_quantized",
        ("shown", "channel", "row", "column"),
        "1",
        "final samples of the quantized run",
        "x_0 of the first samples, in the model's own scale",
    ),
    Variable(
        "decoded_accumulated",
        ("image_channel", "block", "moment"),
        "1",
        "accumulated noise of the final samples after decoding",
        f"joint moments of y = decoded x_0 and e = decoded quantized x_0 - decoded x_0, per pixel; {_DECODED}",
    ),
    Variable(
        "decoded_sample_accumulated",
        ("image_channel", "sample", "moment"),
        "1",
        "accumulated noise of the final samples after decoding, per sample",
        "as decoded_accumulated, over the pixels of one sample",
    ),
    Variable("decoded_count", ("image_channel", "block"), "1", "pixels", "pixels behind each decoded moment"),
    Variable(
        "decoded_reference",
        ("image", "image_channel", "image_row", "image_column"),
        "1",
        "decoded final samples in full precision",
        "pixels of the first samples, in the decoder's own scale",
    ),
    Variable(
        "decoded_quantized",
        ("image", "image_channel", "image_row", "image_column"),
        "1",
        "decoded final samples of the quantized run",
        "pixels of the first samples, in the decoder's own scale",
    ),
)

PREDICTED = (
    Variable(
        "state_predicted",
        ("step", "channel", "block", "moment"),
        "1",
        "predicted noise of x_{t-1}",
        "joint moments of y = x_{t-1} in full precision and e = predicted error of the quantized run's x_{t-1}; "
        "predicted from injected noise and full precision's response, without a quantized trajectory",
    ),
    Variable(
        "state_sample_predicted",
        ("step", "channel", "sample", "moment"),
        "1",
        "predicted noise of x_{t-1} per sample",
        "as state_predicted, over the elements of one sample",
    ),
)
"""Of predictions, which no run stores."""

BY_NAME = {variable.name: variable for variable in (*VARIABLES, *ATTRIBUTION, *OPERANDS, *PREDICTED, *ONE_STEP)}
