"""The networks of diffusers that can be loaded: their conditions, and how each is called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from simulator.models.diffusers_family import Call, Config, Family
from simulator.models.registry import Condition

TEXT, POOLED, MASK = "encoder_hidden_states", "pooled_projections", "encoder_attention_mask"


def required(conditions: Mapping[str, Tensor], name: str) -> Tensor:
    """A condition that the network cannot do without.

    Raises:
        BadInput: it is not given.
    """
    if name not in conditions:
        raise BadInput(
            f"this network must be given {name}",
            got=", ".join(conditions) or "no conditions",
            fix="pass conditioning=simulator.Conditioning({...}) with what model.conditions lists",
        )
    return conditions[name]


def _unet_conditions(config: Config) -> tuple[Condition, ...]:
    kind, classes = config.get("class_embed_type"), config.get("num_class_embeds")
    if kind is None and classes is None:
        return ()
    width = {"identity": config["block_out_channels"][0] * 4}.get(str(kind), 0)
    width = config.get("projection_class_embeddings_input_dim") or width
    return (Condition("class_labels", (width,) if kind in ("identity", "projection", "simple_projection") else ()),)


def _unet_classes(config: Config) -> int | None:
    return config.get("num_class_embeds") if config.get("class_embed_type") is None else None


def _unet_call(config: Config, size: tuple[int, int]) -> Call:
    labelled = bool(_unet_conditions(config))

    def call(module: nn.Module, x: Tensor, timestep: Tensor, **conditions: Tensor) -> Tensor:
        given = {"class_labels": required(conditions, "class_labels")} if labelled else {}
        return module(x, timestep, **given, return_dict=False)[0]

    return call


def _text_unet_conditions(config: Config) -> tuple[Condition, ...]:
    width = config.get("encoder_hid_dim") or config["cross_attention_dim"]
    width = width if isinstance(width, int) else width[0]
    conditions = [*_unet_conditions(config), Condition(TEXT, (None, width)), Condition(MASK, (None,))]
    if config.get("addition_embed_type") == "text_time":
        conditions += [Condition("text_embeds", (None,)), Condition("time_ids", (None,))]
    if dimension := config.get("time_cond_proj_dim"):
        conditions.append(Condition("timestep_cond", (dimension,)))
    return tuple(conditions)


def _text_unet_call(config: Config, size: tuple[int, int]) -> Call:
    labelled, sized = bool(_unet_conditions(config)), config.get("addition_embed_type") == "text_time"

    def call(module: nn.Module, x: Tensor, timestep: Tensor, **conditions: Tensor) -> Tensor:
        text = required(conditions, TEXT)
        given: dict[str, Any] = {n: conditions[n] for n in (MASK, "timestep_cond") if n in conditions}
        if labelled:
            given["class_labels"] = required(conditions, "class_labels")
        if sized:
            given["added_cond_kwargs"] = {n: required(conditions, n) for n in ("text_embeds", "time_ids")}
        return module(x, timestep, text, **given, return_dict=False)[0]

    return call


def _dit_call(config: Config, size: tuple[int, int]) -> Call:
    null = config["num_embeds_ada_norm"]

    def call(module: nn.Module, x: Tensor, timestep: Tensor, **conditions: Tensor) -> Tensor:
        labels = conditions.get("class_labels")
        if labels is None:  # the label that training drops others for: no class
            labels = torch.full((len(x),), null)
        return module(x, timestep=timestep, class_labels=labels, return_dict=False)[0]

    return call


def _pixart_conditions(config: Config) -> tuple[Condition, ...]:
    width = config.get("caption_channels") or config["cross_attention_dim"]
    conditions = (Condition(TEXT, (None, width)), Condition(MASK, (None,)))
    return (
        (*conditions, Condition("resolution", (2,)), Condition("aspect_ratio", (1,))) if _sized(config) else conditions
    )


def _sized(config: Config) -> bool:
    # the class decides by its size where the configuration does not
    stated = config.get("use_additional_conditions")
    return config["sample_size"] == 128 if stated is None else bool(stated)


def _pixart_call(config: Config, size: tuple[int, int]) -> Call:
    sized = _sized(config)

    def call(module: nn.Module, x: Tensor, timestep: Tensor, **conditions: Tensor) -> Tensor:
        text = required(conditions, TEXT)
        sizes = {n: required(conditions, n) if sized else None for n in ("resolution", "aspect_ratio")}
        mask = conditions.get(MASK)
        found = module(
            x, text, timestep=timestep, encoder_attention_mask=mask, added_cond_kwargs=sizes, return_dict=False
        )
        return found[0]

    return call


def _pair_conditions(config: Config) -> tuple[Condition, ...]:
    width, pooled = config["joint_attention_dim"], config["pooled_projection_dim"]
    return Condition(TEXT, (None, width)), Condition(POOLED, (pooled,))


def _sd3_call(config: Config, size: tuple[int, int]) -> Call:
    def call(module: nn.Module, x: Tensor, timestep: Tensor, **conditions: Tensor) -> Tensor:
        text, pooled = required(conditions, TEXT), required(conditions, POOLED)
        return module(x, text, pooled_projections=pooled, timestep=timestep, return_dict=False)[0]

    return call


def _flux_conditions(config: Config) -> tuple[Condition, ...]:
    return (*_pair_conditions(config), Condition("guidance")) if config["guidance_embeds"] else _pair_conditions(config)


def _flux_call(config: Config, size: tuple[int, int]) -> Call:
    height, width = size
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image_ids = torch.stack([torch.zeros_like(row), row, column], dim=2).reshape(-1, 3).float()

    def call(module: nn.Module, x: Tensor, timestep: Tensor, **conditions: Tensor) -> Tensor:
        text = required(conditions, TEXT)
        guidance = required(conditions, "guidance") if config["guidance_embeds"] else None
        return module(
            hidden_states=x, encoder_hidden_states=text, pooled_projections=required(conditions, POOLED),
            timestep=timestep / 1000,  # the network multiplies by 1000 again, as in the pipeline
            img_ids=image_ids, txt_ids=torch.zeros(text.shape[1], 3), guidance=guidance, return_dict=False,
        )[0]  # fmt: skip

    return call


_FAMILIES = (
    Family("UNet2DModel", _unet_conditions, _unet_call, _unet_classes),
    Family(
        "UNet2DConditionModel", _text_unet_conditions, _text_unet_call, _unet_classes,
        runs={"addition_embed_type": (None, "text", "text_time"), "encoder_hid_dim_type": (None, "text_proj")},
    ),
    Family(
        "DiTTransformer2DModel",
        lambda config: (Condition("class_labels", null=config["num_embeds_ada_norm"]),),
        _dit_call,
        lambda config: config["num_embeds_ada_norm"],
    ),
    Family("PixArtTransformer2DModel", _pixart_conditions, _pixart_call),
    Family("SD3Transformer2DModel", _pair_conditions, _sd3_call),
    Family("FluxTransformer2DModel", _flux_conditions, _flux_call, packed=True),
)  # fmt: skip
FAMILIES: Mapping[str, Family] = {family.name: family for family in _FAMILIES}

_OLD_NAME = "Transformer2DModel"
_SINCE = {"ada_norm_zero": "DiTTransformer2DModel", "ada_norm_single": "PixArtTransformer2DModel"}
"""What diffusers makes of the class that DiT and PixArt were saved as before they had their own, by ``norm_type``."""


def family_of(config: Config, folder: Path) -> Family:
    """The family that a configuration names.

    Raises:
        BadInput: it names none of ``FAMILIES``.
    """
    name = str(config.get("_class_name"))
    if name == _OLD_NAME:
        name = _SINCE.get(str(config.get("norm_type")), name)
    if name not in FAMILIES:
        raise BadInput(
            f"a network's _class_name must be one of {', '.join(FAMILIES)}", got=f"{name!r} in {folder}",
            fix="write a module:factory for another one",
        )  # fmt: skip
    return FAMILIES[name]
