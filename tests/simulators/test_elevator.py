"""Lifts: traffic, doors, faults."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.elevator import CLOSED, FIRE_RETURN, INSPECTION, NORMAL, OPEN, STOPPED_OUTSIDE, Elevator, Phase, Shaft

MORNING_S = 7.5 * 3600.0


def lift(seed: int = 1, *, highest: int = 18, trips_per_h: float = 30.0) -> Elevator:
    return Elevator(Random(seed), shaft=Shaft.between(-1, highest), speed_mps=1.75, trips_per_h=trips_per_h)


def running(elevator: Elevator, seconds: float, dt: float = 0.2) -> Iterator[Elevator]:
    """Yield the lift after each step."""
    for _ in range(round(seconds / dt)):
        elevator.step(dt, MORNING_S)
        yield elevator


def until(elevator: Elevator, phase: Phase, seconds: float = 240.0) -> None:
    """Run until the lift is in a phase."""
    for _ in running(elevator, seconds):
        if elevator.phase is phase:
            return
    raise AssertionError(f"not {phase} within {seconds} s, but {elevator.phase}")


def test_floors_have_no_zero() -> None:
    """Below 1 comes -1, as people count."""
    shaft = Shaft.between(-2, 3)
    assert shaft.labels == (-2, -1, 1, 2, 3)
    assert shaft.heights_m == (0.0, 4.2, 8.4, 12.9, 15.9)
    assert shaft.labels[shaft.lobby] == 1


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.floats(5, 200), st.sampled_from([0.05, 0.2, 0.25]))
def test_never_moves_with_open_doors(seed: int, trips_per_h: float, dt: float) -> None:
    """Whatever the traffic: a car that changes its height has its door closed, before and after the step."""
    elevator = lift(seed, trips_per_h=trips_per_h)
    height, door = elevator.height_m, elevator.door
    top = elevator.shaft.heights_m[-1]
    for _ in running(elevator, 600, dt):
        if elevator.height_m != height:
            assert (door, elevator.door) != (OPEN, OPEN)
            assert door == CLOSED
        if elevator.is_moving:
            assert elevator.door == CLOSED
        if elevator.door != CLOSED:
            assert elevator.is_in_door_zone
            assert elevator.speed_mps == 0.0
        assert 0.0 <= elevator.height_m <= top
        assert abs(elevator.speed_mps) <= 1.75 + 1e-9
        assert 0.0 <= elevator.load_percent <= 80.0
        assert elevator.floor in elevator.shaft.labels
        height, door = elevator.height_m, elevator.door


@pytest.mark.parametrize("seed", range(6))
def test_everybody_arrives(seed: int) -> None:
    """After the rush nobody is left waiting or aboard, and the runs were counted."""
    elevator = lift(seed, trips_per_h=40.0)
    before = elevator.runs
    for _ in running(elevator, 3600):
        pass
    assert elevator.runs > before + 40
    rush = list(elevator.waiting) + list(elevator.aboard)
    for _ in range(round(1800 / 0.2)):
        elevator.step(0.2, 3 * 3600.0)
    assert not [p for p in rush if any(p is q for q in [*elevator.waiting, *elevator.aboard])]


def test_full_car_leaves_people_behind_and_comes_back() -> None:
    """More people than fit: the car goes with eleven, comes back for the rest, its doors do not cycle for ever."""
    elevator = lift(trips_per_h=0.0)
    lobby = elevator.shaft.lobby
    for _ in range(16):
        elevator.call(lobby, lobby + 8)
    loads = [elevator.load_percent for _ in running(elevator, 400)]
    assert 70 < max(loads) <= 80
    assert not elevator.waiting
    assert not elevator.aboard


def test_long_calls_at_both_ends_are_served() -> None:
    """People who want the other way are taken up on the way back, not forgotten."""
    elevator = lift(trips_per_h=0.0)
    for origin, goal in [(3, 15), (9, 1), (16, 0), (12, 14), (5, 2)]:
        elevator.call(origin, goal)
    for _ in running(elevator, 400):
        pass
    assert not elevator.waiting
    assert not elevator.aboard


@pytest.mark.parametrize("seed", range(8))
def test_entrapment_sequence(seed: int) -> None:
    """Safety circuit opens, the car stands outside the door zone, the button is pressed, then it reports trapped."""
    elevator = lift(seed)
    elevator.trap()
    until(elevator, Phase.STUCK, 150)
    assert elevator.aboard
    assert not elevator.is_in_door_zone
    stood_at = elevator.height_m
    seen: list[str] = []
    for _ in running(elevator, 60):
        if elevator.fault == STOPPED_OUTSIDE and "fault" not in seen:
            seen.append("fault")
        if elevator.is_button_pressed and "button" not in seen:
            seen.append("button")
        if elevator.is_trapped and "trapped" not in seen:
            seen.append("trapped")
        assert (elevator.height_m, elevator.door) == (stood_at, CLOSED)
    assert seen == ["fault", "button", "trapped"]
    assert elevator.service_mode == NORMAL
    elevator.rescue()
    assert elevator.service_mode == INSPECTION
    until(elevator, Phase.OPEN, 60)
    for _ in running(elevator, 5):
        pass
    assert not elevator.is_trapped
    assert elevator.fault == 0
    assert elevator.service_mode == NORMAL


def test_emergency_stop_is_hard_but_possible() -> None:
    """The brake stops the car within about a metre and a half, not at once."""
    elevator = lift(3)
    elevator.trap()
    until(elevator, Phase.BRAKING, 150)
    began, speed = elevator.height_m, abs(elevator.speed_mps)
    until(elevator, Phase.STUCK, 10)
    way = abs(elevator.height_m - began)
    assert way == pytest.approx(speed**2 / (2 * 1.4), abs=0.25)


@pytest.mark.parametrize("seed", range(5))
def test_fire_return(seed: int) -> None:
    """On a fire the car brings everybody to the entrance floor and waits there with open doors."""
    elevator = lift(seed)
    for _ in running(elevator, 100 + 7 * seed):
        pass
    elevator.return_for_fire()
    for _ in running(elevator, 120):
        pass
    assert (elevator.floor, elevator.door, elevator.service_mode) == (1, OPEN, FIRE_RETURN)
    assert not elevator.aboard
    for _ in running(elevator, 300):
        assert elevator.door == OPEN
    elevator.back_to_normal()
    before = elevator.runs
    elevator.call(elevator.shaft.lobby, 9)
    for _ in running(elevator, 90):
        pass
    assert elevator.service_mode == NORMAL
    assert elevator.runs > before


def test_motor_warms_with_work() -> None:
    """An hour of rush warms the machine by some degrees and stays far below its limit; it cools at night."""
    elevator = lift(2, trips_per_h=60.0)
    for _ in running(elevator, 3600):
        pass
    warm = elevator.motor_c
    assert 35 < warm < 70
    for _ in range(4 * 3600):
        elevator.step(1.0, 2.5 * 3600.0)
    assert elevator.motor_c < warm - 2
