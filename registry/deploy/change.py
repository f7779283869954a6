"""A change of an app's settings, as it is sent to the /v1 API. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from registry.deploy.apps import Settings, SettingsInvalid, variable_name
from storage.document import parse_object
from storage.errors import ManifestInvalid


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What is not named stays as it is."""

    variables: Mapping[str, str | None]
    """None removes a variable."""
    health: bool
    """Whether the health path changes, to `health_path`."""
    health_path: str | None

    @staticmethod
    def parse(body: bytes) -> SettingsChange:
        """Raises SettingsInvalid for whatever the schema of the same name does not allow."""
        try:
            change = parse_object(body, what="the body")
        except ManifestInvalid as error:
            raise SettingsInvalid(str(error)) from None
        for field in change:
            if field not in ("variables", "health_path"):
                raise SettingsInvalid(
                    f"there is no setting {field[:80]!r}; there are variables and health_path"
                )
        variables = change.get("variables", {})
        if not isinstance(variables, dict):
            raise SettingsInvalid("variables must be an object of names and values")
        for name, value in variables.items():
            if not variable_name(name):
                Settings.parse({name: ""})  # raises, also for one that is to be removed
            if value is not None and not isinstance(value, str):
                raise SettingsInvalid(f"the value of {name} must be a string, or null to remove it")
        path = change.get("health_path")
        if path is not None and not isinstance(path, str):
            raise SettingsInvalid("health_path must be a string, or null to remove it")
        return SettingsChange(variables, "health_path" in change, path)

    @property
    def summary(self) -> str:
        """What it does, without a value: those are secrets."""
        told = [
            f"{'removed' if value is None else 'set'} {name}"
            for name, value in self.variables.items()
        ]
        if self.health:
            told.append("health path")
        return ", ".join(told) or "nothing"

    def applied_to(self, settings: Settings) -> Settings:
        """Raises SettingsInvalid."""
        variables = {**settings.variables, **self.variables}
        return Settings.parse(
            {name: value for name, value in variables.items() if value is not None},
            self.health_path if self.health else settings.health_path,
        )
