"""One centrifugal pump with its motor and drive.

Head and power follow the affinity laws (flow ~ speed, head ~ speed squared, power ~ speed cubed); the motor's
current is its magnetising part and its torque part at right angles, which is what a drive shows. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

UNDERLOAD = 0x8120
STOPPED, RUNNING, FAULT = 0, 1, 2
METRES_PER_MPA = 101.97


@dataclass(frozen=True, slots=True, kw_only=True)
class PumpRating:
    """A pump at full speed (50 Hz).

    Attributes:
        shut_off_m: Head without flow.
        slope: Metres lost per m3/h.
        curve: Metres lost per (m3/h) squared.
        idle_kw: Shaft power without flow.
        kw_per_m3h: Shaft power that each m3/h adds at first.
        kw_curve: How this levels off, kW per (m3/h) squared.
        motor_kw: Rated shaft power of the motor.
        motor_a: Rated current of the motor.
        ramp_hz_s: How fast the drive changes its frequency.
    """

    shut_off_m: float = 86.0
    slope: float = 0.10
    curve: float = 0.030
    idle_kw: float = 3.2
    kw_per_m3h: float = 0.15
    kw_curve: float = 0.0011
    motor_kw: float = 7.5
    motor_a: float = 14.9
    ramp_hz_s: float = 8.0


class Pump:
    """A pump on its drive.

    Attributes:
        frequency_hz: Output of the drive.
        flow_m3h: Through the pump; never negative, a check valve sits behind it.
        current_a: Output current of the drive.
        power_kw: Drawn from the mains.
        fault: Code of the drive, 0 none.
        priming: 1 full of water, 0 full of air.
        starts: Counter of starts.
        run_s: Running time.
    """

    def __init__(self, rating: PumpRating) -> None:
        self.rating = rating
        self.is_on = False
        self.frequency_hz = 0.0
        self.flow_m3h = 0.0
        self.current_a = 0.0
        self.power_kw = 0.0
        self.fault = 0
        self.priming = 1.0
        self.starts = 0
        self.run_s = 0.0

    @property
    def state(self) -> int:
        """0 stopped, 1 running, 2 fault: what the drive's status word says."""
        return FAULT if self.fault else RUNNING if self.is_on else STOPPED

    def start(self) -> None:
        """Switch on, unless the drive has tripped."""
        if not self.fault and not self.is_on:
            self.is_on = True
            self.starts += 1

    def stop(self) -> None:
        """Ramp down and stop."""
        self.is_on = False

    def trip(self, code: int) -> None:
        """Stop on a fault; the motor coasts down."""
        self.fault, self.is_on = code, False

    def reset(self) -> None:
        """Clear the fault."""
        self.fault = 0

    def step(self, dt: float, target_hz: float, *, lift_m: float) -> None:
        """Advance by ``dt`` seconds.

        Args:
            dt: Seconds.
            target_hz: What the controller asks of the drive.
            lift_m: Head from suction to discharge that the pump works against.
        """
        goal = min(50.0, max(0.0, target_hz)) if self.is_on else 0.0
        ramp = self.rating.ramp_hz_s * dt
        self.frequency_hz += min(ramp, max(-ramp, goal - self.frequency_hz))
        self.flow_m3h = self.flow_at(self.frequency_hz, lift_m=lift_m)
        if self.is_on:
            self.run_s += dt
        self._motor()

    def flow_at(self, frequency_hz: float, *, lift_m: float) -> float:
        """Return the flow [m3/h] at a frequency against a head."""
        speed = frequency_hz / 50.0
        spare = self.rating.shut_off_m * speed * speed * self.priming - lift_m
        if spare <= 0.0 or self.priming < 0.05:
            return 0.0
        slope = self.rating.slope * max(speed, 0.1)
        root = math.sqrt(slope * slope + 4.0 * self.rating.curve * spare)
        return (root - slope) / (2.0 * self.rating.curve)

    def _motor(self) -> None:
        speed = self.frequency_hz / 50.0
        if not self.is_on or speed <= 0.0:
            self.current_a = self.power_kw = 0.0
            return
        flow = self.flow_m3h / speed  # as it would be at full speed
        rating = self.rating
        wet_kw = speed**3 * (rating.idle_kw + rating.kw_per_m3h * flow - rating.kw_curve * flow * flow)
        # without water only seals and bearings are left
        shaft_kw = wet_kw * self.priming + 0.06 * self.rating.motor_kw * speed * (1.0 - self.priming)
        torque = shaft_kw / speed / self.rating.motor_kw
        self.current_a = self.rating.motor_a * math.hypot(0.26, 0.95 * torque)
        self.power_kw = shaft_kw / 0.87 + 0.12
