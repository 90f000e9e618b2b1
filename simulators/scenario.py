"""Scenarios: what happens to the simulated equipment and when, and which alarms and tickets must follow."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from simulators.actions import ACTIONS, BESIDES, CUT, PLUG, PULL, RESTORE
from simulators.compound import Compound
from watchroom.durations import Seconds
from watchroom.errors import ConfigError
from watchroom.yamlfile import Strict, Text, load_yaml

FOLDER = Path(__file__).parent / "scenarios"


class Step(Strict):
    """One thing that happens."""

    at: Seconds = Field(ge=0, description="Seconds after the start of the scenario")
    do: str = Field(description="What happens, a name of simulators.actions")
    on: str = Field(default="", description="Equipment, or the gateway to cut")
    value: float = Field(default=0.0, description="Amount; its meaning is the action's")
    number: int = Field(default=1, ge=1, description="Zone of a fire panel, or pump, counted from 1")

    @field_validator("do")
    @classmethod
    def _known(cls, value: str) -> str:
        known = (*ACTIONS, *BESIDES)
        if value not in known:
            raise ValueError(f"nothing is called {value!r}; known: {', '.join(known)}")
        return value


class Expectation(Strict):
    """What the centre must say because of it."""

    alarm: str | None = Field(default=None, description="Rule id")
    ticket: str | None = Field(default=None, description="Ticket type")
    on: str = Field(description="Equipment")
    instance: str | None = Field(default=None, description="Instance of the alarm's row, if the rule has several")
    becomes: Literal["raised", "cleared", "opened"] = "raised"
    after: Seconds = Field(default=0.0, ge=0, description="Not earlier than this")
    before: Seconds = Field(gt=0, description="Not later than this")

    @model_validator(mode="after")
    def _one(self) -> Expectation:
        if (self.alarm is None) == (self.ticket is None):
            raise ValueError("an expectation is about either alarm: or ticket:")
        if self.after >= self.before:
            raise ValueError("after comes before before")
        if (self.becomes == "opened") != (self.ticket is not None):
            raise ValueError("tickets are opened, alarms raised or cleared")
        return self


class Scenario(Strict):
    """One scenario file.

    Attributes:
        start: Local time of day at which it plays when a test starts the simulators with it; None for "now".
    """

    title: Text
    story: Text
    start: Seconds | None = None
    duration: Seconds = Field(ge=0, description="After this everything is as before")
    steps: list[Step] = []
    expect: list[Expectation] = []


def scenario_names() -> tuple[str, ...]:
    """Return the names of all scenarios, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_scenario(name: str) -> Scenario:
    """Read one scenario.

    Raises:
        ConfigError: If there is none of that name, or its file is wrong.
    """
    if name not in scenario_names():
        near = difflib.get_close_matches(name, scenario_names(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"scenarios: {', '.join(scenario_names())}"
        raise ConfigError(f"there is no scenario {name!r}", hint=hint)
    scenario: Scenario = load_yaml(FOLDER / f"{name}.yaml").parse(Scenario)
    return scenario


class Play:
    """A scenario in progress: feeds its steps to the compound when their time has come.

    Args:
        scenario: What to play.
        begin_s: The compound's time at which it starts.
        cut: Called with a gateway's id and whether its devices are cut off.
        pull: Called with a gateway's id and whether its uplink is pulled.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        begin_s: float,
        cut: Callable[[str, bool], None],
        pull: Callable[[str, bool], None],
    ) -> None:
        self._steps = sorted(scenario.steps, key=lambda step: step.at)
        self._begin_s, self._cut, self._pull = begin_s, cut, pull
        self._end_s = begin_s + scenario.duration

    def is_over(self, time_s: float) -> bool:
        """Whether everything has happened."""
        return not self._steps and time_s >= self._end_s

    def advance(self, compound: Compound) -> None:
        """Do what is due at the compound's present time."""
        while self._steps and self._begin_s + self._steps[0].at <= compound.time_s:
            step = self._steps.pop(0)
            if step.do in {CUT, RESTORE}:
                self._cut(step.on, step.do == CUT)
            elif step.do in {PULL, PLUG}:
                self._pull(step.on, step.do == PULL)
            else:
                ACTIONS[step.do](compound, step.on, step.value, step.number)
