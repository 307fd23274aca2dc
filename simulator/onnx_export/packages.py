"""Optional packages that an export needs."""

from __future__ import annotations

from importlib.util import find_spec

from samplers.errors import BadInput


def require_package(name: str, purpose: str) -> None:
    """Raise BadInput unless a package of the extra ``onnx`` is installed."""
    if find_spec(name) is None:
        raise BadInput(f"{purpose} needs the package {name}", got="none", fix="pip install 'qnoise[onnx]'")
