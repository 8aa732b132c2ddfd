"""Lifelike traffic, sent at a chosen rate to a service that runs."""

from trafficlog.simulate.options import Mix, SimulateOptions
from trafficlog.simulate.run import simulate, simulate_until_signal
from trafficlog.simulate.summary import (
    NoProgress,
    Progress,
    SimulationFailedError,
    SimulationState,
    SimulationSummary,
)
from trafficlog.simulate.traffic import Planned, Sort, Traffic

__all__ = [
    "Mix",
    "NoProgress",
    "Planned",
    "Progress",
    "SimulateOptions",
    "SimulationFailedError",
    "SimulationState",
    "SimulationSummary",
    "Sort",
    "Traffic",
    "simulate",
    "simulate_until_signal",
]
