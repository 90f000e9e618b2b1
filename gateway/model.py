"""Device models by name: a register map that many devices share, from the package or from a site's own folder."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.devicemodel import Hole, Model, ModelSignal
from gateway.modelcompile import compile_model
from gateway.modelfile import named_booleans, with_overrides
from watchroom.errors import ConfigError
from watchroom.yamlfile import YamlFile, load_yaml

__all__ = ["PACKAGE_MODELS", "Hole", "Model", "ModelLibrary", "ModelSignal", "compile_model"]

PACKAGE_MODELS = Path(__file__).parent / "models"


class ModelLibrary:
    """Finds models by name: those of the package, and those of extra folders, which win.

    Args:
        folders: Extra folders with ``NAME.yaml``, the first one wins.
    """

    def __init__(self, *folders: Path) -> None:
        self._folders = (*folders, PACKAGE_MODELS)
        self._files: dict[str, YamlFile] = {}
        self._plain: dict[str, Model] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of all models, sorted; reads no file."""
        return tuple(sorted({path.stem for folder in self._folders for path in folder.glob("*.yaml")}))

    def path(self, name: str) -> Path:
        """Return the file of a model.

        Raises:
            ConfigError: If there is none; names the nearest.
        """
        for folder in self._folders:
            if (folder / f"{name}.yaml").is_file():
                return folder / f"{name}.yaml"
        near = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.4)
        known = f"did you mean {near[0]!r}?" if near else f"known models: {', '.join(self.names()) or 'none'}"
        raise ConfigError(f"there is no model {name!r}", hint=known)

    def model(
        self, name: str, *, overrides: Mapping[str, Any] | None = None, params: Mapping[str, float] | None = None
    ) -> Model:
        """Return a compiled model.

        Args:
            name: File name without ``.yaml``.
            overrides: What one device changes, ``{"pressure.range": [0, 1.0]}``.
            params: Numbers for the model's expressions.

        Raises:
            ConfigError: If the model is unknown or its file is wrong.
            ValueError: If an override or parameter does not fit the model.
        """
        if name not in self._plain:
            self._files[name] = named_booleans(load_yaml(self.path(name)))
            self._plain[name] = compile_model(self._files[name])
        plain = self._plain[name]
        for key in params or {}:
            if key not in plain.params:
                raise ValueError(f"model {name} has no parameter {key!r} (known: {', '.join(plain.params) or 'none'})")
        if not overrides:
            return replace(plain, params={**plain.params, **(params or {})}) if params else plain
        try:
            changed = compile_model(with_overrides(self._files[name], overrides))
        except ConfigError as exc:
            raise ValueError(f"{exc.key}: {exc.problem}" + (f" ({exc.hint})" if exc.hint else "")) from exc
        return replace(changed, params={**changed.params, **(params or {})})
