"""The base of all offline agents: scalars and state."""

import abc
import math
import os
import pathlib
import string
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cql_atari.agents import dopamine
from cql_atari.core import constraints, progress
from cql_atari.core.errors import DivergedError, UserError
from cql_atari.core.files import atomic_file, user_path, writing
from cql_atari.core.protocols import Arrays, Exported

_TOTALS = 'scalar_totals'
_UNREADABLE = (
  OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile,
)  # fmt: skip
_STEPS_SHOWN = 100  # Between two looks at the loss.
_LARGE = 1e5  # States and rewards beyond it are no sensible inputs.


def fault_of_loss(given) -> str | None:
  """What is wrong with what a loss returned; None where nothing is."""
  is_pair = isinstance(given, tuple) and len(given) == 2
  if not is_pair or not isinstance(given[1], dict):
    return 'returns no pair: return the loss and a dict of scalars to log'
  for name, value in {'the loss': given[0], **given[1]}.items():
    shape = tf.convert_to_tensor(value).shape
    if shape.rank != 0:
      return f'gives {name} of shape {shape}: give a scalar, as by reduce_mean'
  return None


def _shape(shape: tuple[int, ...] | None) -> str:
  return 'missing' if shape is None else f'of shape {shape}'


class OfflineAgent(dopamine.DopamineProtocol):
  """An agent that learns from data alone; see `core.protocols.Agent`.

  Attributes:
    LABEL: its name in reports, with attributes in braces; not inherited.
    SCALARS: names of the scalars that a class's loss returns, beside its
      bases' own.
    has_values: whether it learns values, which `predict_values` gives.
    scalar_names: names of the scalars in `mean_scalars`.
  """

  LABEL: str
  SCALARS: tuple[str, ...] = ()
  has_values = True
  pretraining_left = 0  # See `core.protocols.Agent`; most need none.
  held_out_names: tuple[str, ...] = ()
  loss_names: tuple[str, ...] = ('loss',)
  data: Any = None  # What it learns from, of `core.protocols.Data` or a memory.
  scalar_names: tuple[str, ...]
  _unchecked_steps = 0

  @property
  def label(self) -> str:
    """Name in reports, such as 'CQL'; the class name if it sets no LABEL."""
    label = vars(type(self)).get('LABEL', type(self).__name__)
    names = [name for _, name, _, _ in string.Formatter().parse(label) if name]
    for name in names:
      if not hasattr(self, name):
        raise UserError(
          f'the LABEL of {type(self).__name__} is {label!r}, but the agent has '
          f'no attribute {name!r}.'
        )
    return label.format(**{name: getattr(self, name) for name in names})

  @property
  @abc.abstractmethod
  def gradient_steps(self) -> int:
    """Gradient steps taken so far."""

  def pretrain_steps(self, count: int) -> None:
    """Takes up to `count` pretraining steps; there are none by default."""
    del count

  @abc.abstractmethod
  def train_steps(
    self, count: int, show_progress: bool = False, title: str = 'training'
  ) -> None:
    """Takes gradient steps on the next batches.

    Args:
      count: how many.
      show_progress: whether to show a progress bar, with the loss.
      title: what the bar says.

    Raises:
      UserError: the count is no number of steps, or the loss is no longer
        finite; it is looked at every hundred steps with a bar, and without at
        the end, if a hundred have passed.
    """

  def _parts(
    self, count: int, show_progress: bool, title: str
  ) -> Iterator[int]:
    """The arguments of `train_steps` as numbers of steps, one after another."""
    constraints.check('count', count, constraints.NonNegativeInt)
    if not tf.executing_eagerly():
      raise UserError(
        'train_steps is called inside a tf.function: call it from Python, it '
        'compiles the steps itself.'
      )
    count = int(count)  # NumPy's would be of another type in the graph.
    if not show_progress:
      yield count
      self._unchecked_steps += count
      if self._unchecked_steps >= _STEPS_SHOWN:  # Of steps taken one by one,
        self.finite_loss()  # each would be waited for.
      return
    with progress.bar(count, ' steps', title) as bar:
      for first in range(0, count, _STEPS_SHOWN):
        steps = min(_STEPS_SHOWN, count - first)
        yield steps
        bar.set_postfix_str(f'loss {self.finite_loss():.4f}', refresh=False)
        bar.update(steps)

  def finite_loss(self) -> float:
    """The mean loss since the last reset of scalars; waits for the steps.

    Raises:
      DivergedError: it, or another of `loss_names`, is no longer finite.
    """
    self._unchecked_steps = 0
    means = self.mean_scalars()
    broken = [
      name for name in self.loss_names if not math.isfinite(means[name])
    ]
    if not broken:
      return means['loss']
    remedy = 'lower the learning rate'
    if 'alpha' in self.scalar_names:
      remedy += ' or alpha (or raise target_gap)'
    if not type(self).__module__.startswith('cql_atari.'):
      remedy = f'look at the loss of {type(self).__name__}, or {remedy}'
    for name, largest in getattr(self.data, 'largest', {}).items():
      if largest > _LARGE:
        remedy = f'the data have {name} of size {largest:.3g}, so scale them'
    raise DivergedError(
      f'the {broken[0].replace("_", " ")} is {means[broken[0]]} by gradient '
      f'step {self.gradient_steps}: {remedy}, and start anew (a run, in a new '
      '--base_dir).'
    )

  @abc.abstractmethod
  def select_actions(
    self, states: np.ndarray, rng: np.random.Generator | None = None
  ) -> np.ndarray:
    """Actions (B,) or (B, A) as evaluations play them."""

  @abc.abstractmethod
  def exported(self) -> Exported:
    """The policy as evaluations play it, as a self-contained function."""

  def sample_actions(
    self, states: np.ndarray, rng: np.random.Generator
  ) -> np.ndarray:
    """Actions (B,) or (B, A) of the policy whose values it learns."""
    return self.select_actions(states, rng)

  @abc.abstractmethod
  def _variables_by_name(self) -> dict[str, Sequence[tf.Variable]]:
    """All of its state but the scalars'."""

  # --- Scalars. ---

  def _declared_scalars(self) -> tuple[str, ...]:
    """The SCALARS of the bases and the class."""
    classes = list(reversed(type(self).__mro__))
    for owner in classes:
      if isinstance(given := vars(owner).get('SCALARS', ()), str):
        raise UserError(
          f'{owner.__name__}.SCALARS is a text: give ({given!r},).'
        )
    return tuple(n for c in classes for n in vars(c).get('SCALARS', ()))

  def _make_totals(self, scalar_names: Sequence[str]) -> None:
    self.scalar_names = tuple(dict.fromkeys(scalar_names))
    self._totals = [  # Sums and counts.
      tf.Variable(  # In float32, 62,500 additions would show.
        tf.zeros(len(self.scalar_names), tf.float64),
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
      )
      for _ in range(2)
    ]

  def _add_scalars(
    self, scalars: dict[str, tf.Tensor], counts: dict[str, tf.Tensor]
  ) -> None:
    """Part of the gradient step: adds scalars to their sums and counts.

    Raises:
      UserError: a loss's scalars are not those that SCALARS declares.
    """
    self._check_declared(scalars)
    counts = {**dict.fromkeys(scalars, 1.0), **counts}
    for totals, values in zip(self._totals, (scalars, counts)):
      added = [tf.cast(values[name], tf.float64) for name in self.scalar_names]
      totals.assign_add(tf.stack(added))

  def held_out_scalars(self) -> dict[str, float]:
    """Scalars on held-out data by name; none by default."""
    return {}

  def _check_declared(self, scalars: dict[str, tf.Tensor]) -> None:
    name = type(self).__name__
    for scalar in scalars.keys() - set(self.scalar_names):
      own = (*vars(type(self)).get('SCALARS', ()), scalar)
      raise UserError(
        f'the loss of {name} gives a scalar {scalar!r} that is not declared: '
        f'the class needs SCALARS = {own}.'
      )
    for scalar in set(self.scalar_names) - scalars.keys():
      raise UserError(
        f'{name}.SCALARS declares {scalar!r}, which its loss does not give.'
      )

  def mean_scalars(self, reset: bool = False) -> dict[str, float]:
    """Means over the gradient steps since the last reset.

    Args:
      reset: whether to begin anew afterwards.

    Returns:
      Each of `scalar_names`; NaN without steps.
    """
    sums, counts = (variable.numpy() for variable in self._totals)
    if reset:
      for variable in self._totals:
        variable.assign(tf.zeros_like(variable))
    means = np.where(counts, sums / np.maximum(counts, 1), np.nan)
    return dict(zip(self.scalar_names, means.tolist()))

  # --- State. ---

  def _saved(self) -> dict[str, tf.Variable]:
    groups = {**self._variables_by_name(), _TOTALS: self._totals}
    saved = {
      f'{name}_{index}': variable
      for name, variables in groups.items()
      for index, variable in enumerate(variables)
    }
    own = {  # Of a user's class.
      f'own_{name}': variable
      for name, variable in vars(self).items()
      if isinstance(variable, tf.Variable)
    }
    return saved | own

  def save(self, path: str | os.PathLike) -> pathlib.Path:
    """Writes all that `load` needs into a file: weights, optimizer, steps.

    Args:
      path: the file, such as 'cql.npz'.

    Raises:
      UserError: it can't be written.
    """
    path = user_path(path)
    with writing(f'the agent {path}', 'make room, or choose another path'):
      path.parent.mkdir(parents=True, exist_ok=True)
      with atomic_file(path) as file:
        np.savez(file, **self.state())
    return path

  def load(self, path: str | os.PathLike) -> 'OfflineAgent':
    """Restores an agent from a file written by `save`; training resumes there.

    Args:
      path: the file.

    Returns:
      The agent itself.

    Raises:
      UserError: there is no such file, or it is of another agent or network.
    """
    try:
      with np.load(user_path(path)) as file:
        arrays = dict(file)
    except _UNREADABLE as error:
      raise UserError(f'{path} is no saved agent ({error}).') from None
    if not self._saved().keys() & arrays.keys():
      raise UserError(f'{path} is no saved agent, but holds other arrays.')
    self.load_state(arrays)
    return self

  def state(self) -> Arrays:
    """Everything that resuming needs."""
    return {name: value.numpy() for name, value in self._saved().items()}

  def load_state(self, arrays: Arrays) -> None:
    """Restores a state returned by `state`.

    Args:
      arrays: the arrays by name.

    Raises:
      UserError: the arrays are of an agent with other networks.
    """
    saved = self._saved()
    own = {name: tuple(value.shape) for name, value in saved.items()}
    others = {name: value.shape for name, value in arrays.items()}
    if own != others:
      name = sorted(n for n, _ in own.items() ^ others.items())[0]
      raise UserError(
        'the checkpoint belongs to another agent or network than this '
        f'{type(self).__name__}: its {name} is {_shape(others.get(name))}, not '
        f'{_shape(own.get(name))}. Give the settings it was trained with, or '
        'another folder.'
      )
    for name, variable in saved.items():
      variable.assign(arrays[name])

  def load_weights(self, arrays: Arrays) -> None:
    """As `load_state`, but ignores what scalars were recorded."""
    totals = {n: v for n, v in self.state().items() if n.startswith(_TOTALS)}
    self.load_state({**arrays, **totals})
