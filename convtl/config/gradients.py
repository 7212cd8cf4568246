"""Probes of training itself: how gradients and representations behave, unit by unit."""

from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from convtl.config.values import (
    STRICT,
    Count,
    Counts,
    Fraction,
    Naturals,
    OpenShare,
    Positive,
    Several,
)

Activation = Literal["sigmoid", "tanh", "relu"]
Initialiser = Literal["normal_0.01", "lecun_normal", "glorot_uniform", "he_normal"]
Optimiser = Literal["sgd", "adam"]
Pair = Literal["sigmoid/sgd", "sigmoid/adam", "tanh/sgd", "tanh/adam", "relu/sgd", "relu/adam"]


@dataclass(frozen=True, config=STRICT)
class ProfilesConfig:
    """How large the gradient is at each unit: plain chains (primary) and LeNet-5 (secondary), under SGD.

    Adam divides each weight's gradient by its own size and so hides what is asked here.
    """

    activations: Several[Activation] = ("sigmoid", "tanh", "relu")
    initialisers: Several[Initialiser] = (
        "normal_0.01",
        "lecun_normal",
        "glorot_uniform",
        "he_normal",
    )
    """of every unit, the head included: a head of zeros would make every gradient below it exactly 0"""
    hidden: Counts = (5, 10, 20)
    """hidden units of the plain chains"""
    width: Count = 64
    updates: Naturals = (0, 10, 100, 1000)
    """after how many updates the chains are looked at"""
    lenet_updates: Naturals = (0, 10, 100)
    batch_size: Count = 16
    rate: Positive = 0.01


@dataclass(frozen=True, config=STRICT)
class OptimiserRates:
    """The rates were set once, on development draws (`seed=1`): the nets that learn at all do at these."""

    sgd: Positive = 0.03
    """with momentum 0.9; a sigmoid LeNet-5 stays at chance at this and at 0.1, 0.3 and 1"""
    adam: Positive = 0.003


@dataclass(frozen=True, config=STRICT)
class ConvergenceConfig:
    """When each unit of LeNet-5 becomes what it will be."""

    activations: Several[Activation] = ("sigmoid", "tanh", "relu")
    optimisers: Several[Optimiser] = ("sgd", "adam")
    initialiser: Initialiser = "lecun_normal"
    updates: Count = 600
    checkpoints: Counts = (1, 2, 4, 7, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 500)
    """after how many updates the units are looked at, beside the beginning and the end"""
    batch_size: Count = 16
    rates: OptimiserRates = field(default_factory=OptimiserRates)
    arrived: OpenShare = 0.9
    """share of the way from the initial representation to the final one (linear CKA)"""
    moved: Fraction = 0.05
    """a unit whose final representation is nearer than this to its initial one did not move"""


@dataclass(frozen=True, config=STRICT)
class FreezingConfig:
    """What it costs to leave one unit of LeNet-5 as it is from some update on."""

    pairs: Several[Pair] = ("sigmoid/adam", "tanh/sgd", "relu/sgd")
    """activation and optimiser; with SGD a sigmoid net learns nothing that freezing could spoil"""
    at: Naturals = (0, 50)
    """updates from which on the unit is frozen; 0: it stays as it was drawn"""
    updates: Count = 300


@dataclass(frozen=True, config=STRICT)
class GradientsConfig:
    """How large gradients are, unit by unit, and when each unit arrives at what it will be."""

    replicates: Count = 12
    """fresh nets, each with letters and batches of its own"""
    images_per_class: Count = 100
    probe_per_class: Count = 10
    """held-out images a class on which gradients and representations are looked at"""
    test_per_class: Count = 50
    profiles: ProfilesConfig = field(default_factory=ProfilesConfig)
    convergence: ConvergenceConfig = field(default_factory=ConvergenceConfig)
    freezing: FreezingConfig = field(default_factory=FreezingConfig)
