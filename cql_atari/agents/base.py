"""What all offline agents share: their scalars, their checkpoints."""

import abc
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cql_atari.core.errors import UserError


class OfflineAgent(abc.ABC):
  """An agent that learns from data alone, by Dopamine's protocol.

  Attributes:
    scalar_names: what `mean_scalars` tells of.
    eval_mode: whether it is being evaluated.
    summary_writer: of TensorBoard events, if any.
  """

  HAS_VALUES = True  # Whether it learns values, which `predict_values` gives.

  def __init__(self, summary_writer: str | None):
    """Opens the summary writer, given a folder (Dopamine's convention)."""
    self.eval_mode = True
    self.summary_writer = None
    if summary_writer is not None:
      self.summary_writer = tf.summary.create_file_writer(str(summary_writer))

  @property
  @abc.abstractmethod
  def gradient_steps(self) -> int:
    """Gradient steps taken so far."""

  @abc.abstractmethod
  def train_steps(self, count: int) -> None:
    """Takes gradient steps on the next batches."""

  def sample_actions(
    self, states: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Actions (B,) or (B, A) of the policy whose values it learns."""
    return self.select_actions(states, rng)

  def train_step(self) -> None:
    """Takes one gradient step on the next batch."""
    self.train_steps(1)

  @abc.abstractmethod
  def _variables_by_name(self) -> dict[str, Sequence[tf.Variable]]:
    """All of its state but the scalars'."""

  # --- Scalars. ---

  def _make_totals(self, scalar_names: Sequence[str]) -> None:
    self.scalar_names = tuple(scalar_names)
    self._scalar_sums, self._scalar_counts = (
      tf.Variable(  # In float32, 62,500 additions would show.
        tf.zeros(len(self.scalar_names), tf.float64),
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
      )
      for _ in range(2)
    )

  def _add_scalars(
    self, scalars: dict[str, tf.Tensor], counts: dict[str, tf.Tensor]
  ) -> None:
    """Part of the gradient step: adds scalars up, and how often."""
    for totals, values in (
      (self._scalar_sums, scalars),
      (self._scalar_counts, {**dict.fromkeys(scalars, 1.0), **counts}),
    ):
      totals.assign_add(
        tf.stack(
          [tf.cast(values[name], tf.float64) for name in self.scalar_names]
        )
      )

  def mean_scalars(self, reset: bool = False) -> dict[str, float]:
    """Means over the gradient steps since the last reset.

    Args:
      reset: whether to begin anew afterwards.

    Returns:
      Each of `scalar_names`; NaN without steps.
    """
    totals = (self._scalar_sums, self._scalar_counts)
    sums, counts = (variable.numpy() for variable in totals)
    if reset:
      for variable in totals:
        variable.assign(tf.zeros_like(variable))
    means = np.where(counts, sums / np.maximum(counts, 1), np.nan)
    return dict(zip(self.scalar_names, means.tolist()))

  # --- Saving. ---

  def _saved(self) -> dict[str, tf.Variable]:
    groups = {
      **self._variables_by_name(),
      'scalar_totals': [self._scalar_sums, self._scalar_counts],
    }
    return {
      f'{name}_{index}': variable
      for name, variables in groups.items()
      for index, variable in enumerate(variables)
    }

  def bundle_and_checkpoint(
    self, checkpoint_dir: str, iteration_number: int
  ) -> dict[str, np.ndarray]:
    """Everything that resuming needs, as plain arrays; the runner writes it."""
    del checkpoint_dir, iteration_number
    return {name: value.numpy() for name, value in self._saved().items()}

  def unbundle(
    self,
    checkpoint_dir: str,
    iteration_number: int,
    bundle: dict[str, np.ndarray] | None,
  ) -> bool:
    """Restores what `bundle_and_checkpoint` gave.

    Returns:
      False when there is nothing to restore.

    Raises:
      UserError: the arrays are of an agent with other networks.
    """
    del iteration_number
    if bundle is None:
      return False
    saved = self._saved()
    shapes = {name: tuple(value.shape) for name, value in saved.items()}
    if shapes != {name: value.shape for name, value in bundle.items()}:
      raise UserError(
        f'the checkpoint in {checkpoint_dir} belongs to another agent or '
        'network: give the settings it was trained with, or another folder.'
      )
    for name, variable in saved.items():
      variable.assign(bundle[name])
    return True

  def restore(self, checkpoint_dir: str, bundle: dict[str, np.ndarray]) -> None:
    """Restores a checkpoint for acting: whatever scalars it told of.

    Raises:
      UserError: the arrays are of an agent with other networks.
    """
    own = self.bundle_and_checkpoint(checkpoint_dir, 0)
    totals = {n: v for n, v in own.items() if n.startswith('scalar_totals')}
    self.unbundle(checkpoint_dir, 0, {**bundle, **totals})
