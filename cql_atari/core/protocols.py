"""Interfaces between the packages, as typing protocols.

Any class with these members can be trained, evaluated, resumed and reported on:
those of Atari and D4RL, or your own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

Arrays = dict[str, np.ndarray]
Record = dict[str, Any]  # The fields of a run.json.


class Exported(NamedTuple):
  """An agent as a function that needs nothing else.

  Attributes:
    states: the specification of the states it takes.
    act: states to {'action': ..., and what the agent says of it}, a graph.
    variables: the variables that it reads.
  """

  states: Any
  act: Callable[[Any], dict[str, Any]]
  variables: Sequence[Any]


class Panel(NamedTuple):
  """The panel beside the picture in a video.

  Attributes:
    rows: for each bar its name, its length in [0, 1], the text at its end, and
      whether it is highlighted.
    caption: explains the bars.
    value: Q of the chosen action, plotted over time; None without values.
    distribution: returns (N,) of the chosen action and their probabilities
      (N,); None if the agent does not learn them.
  """

  rows: Sequence[tuple[str, float, str, bool]]
  caption: str
  value: float | None = None
  distribution: tuple[np.ndarray, np.ndarray] | None = None


class Agent(Protocol):
  """An agent: it learns and acts. States are (B, ...), actions (B,) or (B, A).

  Attributes:
    label: its name in reports, such as 'CQL' or 'CQL(rho)'.
    has_values: whether it learns values, which `predict_values` gives.
    gamma: discount per agent step.
    gradient_steps: gradient steps taken so far.
    pretraining_left: upper bound on the pretraining steps left; 0 for agents
      without pretraining.
    scalar_names: names of the scalars in `mean_scalars`; 'loss' is one.
    held_out_names: names of `held_out_scalars`.
  """

  label: str
  has_values: bool
  gamma: float
  gradient_steps: int
  pretraining_left: int
  scalar_names: tuple[str, ...]
  held_out_names: tuple[str, ...]

  def pretrain_steps(self, count: int) -> None:
    """Takes up to `count` pretraining steps."""

  def train_steps(
    self, count: int, show_progress: bool = False, title: str = 'training'
  ) -> None:
    """Takes gradient steps on the next batches, with a bar where asked to."""

  def finite_loss(self) -> float:
    """The mean loss since the last reset; an error if it isn't finite."""

  def mean_scalars(self, reset: bool = False) -> dict[str, float]:
    """Means over the gradient steps since the last reset."""

  def held_out_scalars(self) -> dict[str, float]:
    """Scalars on held-out data by name; {} if nothing is held out."""

  def select_actions(
    self, states: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Actions as evaluations play them."""

  def sample_actions(
    self, states: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Actions of the policy whose values it learns."""

  def predict_values(
    self, states: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """V^pi of states, (B,)."""

  def state(self) -> Arrays:
    """Everything that resuming needs."""

  def load_state(self, arrays: Arrays) -> None:
    """Goes back to what `state` gave."""

  def load_weights(self, arrays: Arrays) -> None:
    """As `load_state`, but ignores what scalars were recorded."""

  def exported(self) -> Exported:
    """The policy as evaluations play it, as a self-contained function."""


class Data(Protocol):
  """Data to learn from.

  Attributes:
    manifest: where it comes from, as plain JSON; it has `game`, `split` and
      `behavior_return` ({'mean', 'episodes', 'source', 'is_clipped'} of the
      data's games, or None).
    digest: SHA-256 that names exactly what is learned from.
    label: its name in reports, such as '1 %' or 'medium-v2'.
    is_published: whether published scores on this data are comparable.
    action_size: actions in every state, or numbers in an action.
    largest: the greatest size of its numbers, by name.
    record: its further fields in run.json.
  """

  manifest: dict[str, Any]
  digest: str
  label: str
  is_published: bool
  action_size: int
  largest: dict[str, float]
  record: Record

  def discounted_return(self, gamma: float) -> float | None:
    """The mean discounted return-to-go of the data's actions."""

  def learned_rewards(self, rewards: np.ndarray) -> np.ndarray:
    """Rewards of play as the data have them: clipped, scaled, shifted."""

  def sample_states(self, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random states, (count, ...)."""

  def initial_states(self, most: int) -> np.ndarray:
    """States that episodes begin in, `most` at most."""


class Logger(Protocol):
  """Keeps what a run measures, beside its own metrics.csv and TensorBoard.

  A user's own is a class with these two methods, called with (folder, record):
  the run folder, and the fields of run.json, among them 'settings'.
  """

  def log(self, step: int, metrics: dict[str, float]) -> None:
    """Logs the metrics of an iteration.

    Args:
      step: gradient steps taken.
      metrics: finite values by name.
    """

  def close(self, failed: bool) -> None:
    """Ends the log.

    Args:
      failed: whether an error ended the run; False where it is done, or was
        stopped and can go on.
    """


class Environments(Protocol):
  """Episodes of one kind side by side, each starting anew when it ends.

  Attributes:
    benchmark: the name of the benchmark they belong to.
    name: what is played, as `game` in the manifest of its data.
    num_environments: how many, E.
    longest_episode: agent steps after which an episode is cut off.
    record: their fields in run.json.
    renders: whether `picture` will be asked for; set it before `reset`.
  """

  renders: bool
  benchmark: str
  name: str
  num_environments: int
  longest_episode: int
  record: Record

  def reset(self, seed: int) -> np.ndarray:
    """Starts new episodes: states (E, ...)."""

  def step(
    self, actions: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step in each: states, raw rewards (E,), whether it ended (E,)."""

  def picture(self, states: np.ndarray) -> np.ndarray:
    """The first one as it looks now, in these states: uint8 (420, W, 3)."""


class ScoreTable(NamedTuple):
  """A benchmark's table of scores in a report.

  Attributes:
    file: its name, without an ending.
    title: its heading.
    explanation: the paragraph before it.
  """

  file: str
  title: str
  explanation: str


class Column(NamedTuple):
  """A further column of a table of scores.

  Attributes:
    title: its heading.
    value: gives its number or None, called with a run's record and its mean
      final score.
    digits: decimals shown.
  """

  title: str
  value: Callable[[Record, float], float | None]
  digits: int


class Collecting(NamedTuple):
  """The way a benchmark's data are made.

  Attributes:
    gin_file: the default gin file.
    required: the parameter that has to be bound.
    bindings: the bindings for a game or task, given its name.
    check_steps: raises a UserError where so many steps can't be made, given
      their number and the bindings.
    make: makes the collector, called with (run_dir, name, steps or None).
    record: the fields of collect.json, given the collector and the name.
  """

  gin_file: str
  required: str
  bindings: Callable[[str], list[str]]
  check_steps: Callable[[int, Mapping[str, Any]], None]
  make: Callable[..., Any]
  record: Callable[[Any, str], Record]


class Benchmark(Protocol):
  """The differences between Atari, D4RL and any other benchmark.

  Attributes:
    name: as in run.json, such as 'atari'.
    macro: gin's, that names what is played: 'GAME' or 'TASK'.
    needs_data_to_act: whether an agent can't be built without its data.
    steps_per_second: of play, in films.
    usual_episode: agent steps after which an episode is usually cut off.
    data_share_is_hyperparameter: whether runs on different shares of the data
      belong to one experiment, with the share as a setting.
    return_label: label of an axis of evaluation returns.
    policy_metric: the metric that holds Q of the policy's actions.
    checkpoint_bytes: about the size of all checkpoints a run keeps.
    table: its table of scores.
    columns: further columns of it, such as published scores.
    create_environments: makes them by gin's settings, called with
      num_environments and max_steps_per_episode.
    collecting: the way data of it are made.
    fine_tuning: the way on from an offline run.
  """

  name: str
  macro: str
  needs_data_to_act: bool
  steps_per_second: int
  usual_episode: int
  data_share_is_hyperparameter: bool
  return_label: str
  policy_metric: str
  checkpoint_bytes: float
  table: ScoreTable
  columns: Sequence[Column]
  create_environments: Callable[..., Environments]
  collecting: Collecting
  fine_tuning: Collecting

  def check_name(self, name: str) -> None:
    """Raises a UserError where there is no such game or task."""

  def path_fields(self, name: str) -> dict[str, str]:
    """Fields of a sweep's paths in braces, such as {'game': 'Pong'}."""

  def check(self, data: Data, environments: Environments) -> None:
    """Raises a UserError unless the data are of the game or task played."""

  def score(self, record: Record, returns: np.ndarray) -> np.ndarray:
    """Returns of a run's evaluations, as reports show them."""

  def normalized(self, game: str, scores: np.ndarray) -> np.ndarray | None:
    """Such scores from 0, random play, to 1, a human or an expert."""

  def panel(
    self,
    agent: Agent,
    environments: Environments,
    states: np.ndarray,
    actions: np.ndarray,
  ) -> Panel:
    """The video's panel for the actions (1, ...) taken in states (1, ...)."""

  def fitted_q(
    self, agent: Agent, data: Data, seed: int, **penalty: Any
  ) -> Agent:
    """Fitted Q evaluation of an agent's policy.

    Args:
      agent: whose policy it is.
      data: what to learn from.
      seed: seeds it.
      **penalty: `penalty`, 'eq1' or 'mu', and its weight `alpha`, for
        conservative values (Eq. 1 or 2).
    """
