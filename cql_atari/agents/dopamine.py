"""Dopamine's agent protocol, on top of ours."""

import abc
from typing import Any

import numpy as np

from cql_atari.core.protocols import Arrays


class DopamineProtocol(abc.ABC):
  """Lets Dopamine's own `Runner` play and save an `OfflineAgent`.

  Attributes:
    eval_mode: set by the runner; offline agents act the same in both modes.
    summary_writer: None: whoever runs the agent writes its summaries.
  """

  eval_mode = True
  summary_writer = None

  @abc.abstractmethod
  def act(self, observation: np.ndarray, begins: bool) -> Any:
    """The action on an observation, the first of an episode or a later one."""

  def begin_episode(self, observation: np.ndarray) -> Any:
    """Starts an episode; returns its first action."""
    return self.act(observation, begins=True)

  def step(self, reward: float, observation: np.ndarray) -> Any:
    """Acts on the next observation; the reward teaches nothing offline."""
    del reward
    return self.act(observation, begins=False)

  def end_episode(self, reward: float, terminal: bool = True) -> None:
    """Ends an episode; nothing is recorded offline."""
    del reward, terminal

  def bundle_and_checkpoint(
    self, checkpoint_dir: str, iteration_number: int
  ) -> Arrays:
    """The state, for the runner to write."""
    del checkpoint_dir, iteration_number
    return self.state()

  def unbundle(
    self, checkpoint_dir: str, iteration_number: int, bundle: dict | None
  ) -> bool:
    """Goes back to a bundle; False where there is none."""
    del checkpoint_dir, iteration_number
    if bundle is None:
      return False
    names = self.state()
    self.load_state({n: v for n, v in bundle.items() if n in names})
    return True
