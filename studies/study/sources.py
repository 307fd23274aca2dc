"""Where a study comes from: its file, or a result of it."""

from __future__ import annotations

import json
from pathlib import Path

from samplers.errors import BadInput
from studies.study.file import read_study
from studies.study.study import Study


def study_from(path: Path, changes: tuple[str, ...] = ()) -> Study:
    """The study of a TOML file, or the one run that a stored file is of.

    Raises:
        BadInput: neither, or changes of a stored run.
    """
    if path.suffix != ".nc":
        return read_study(path, changes)
    if changes:
        raise BadInput("a stored run is run again as it is", got="--set", fix="write a study file to change it")
    from studies.store.images import attributes
    from studies.store.sealed import read_file, unseal

    found = attributes(unseal(read_file(path), path))
    try:
        spec = json.loads(found["study_spec"])
        name = f"run-{found['study_key'][:8]}"
        return Study(name, fixed={field: value for field, value in spec.items() if value is not None and value != ""})
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            "a run is run again from a file that a study made", got=str(path), fix="qnoise run makes other files"
        ) from None
