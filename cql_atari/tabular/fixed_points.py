"""The updates of CQL solved exactly, with the package's own penalties.

One update of Eq. 1 to 4, where every Q(s, a) is free, has its minimum where

  Q(s, a) = B^pi Q^k(s, a) - alpha g(s, a) / beta(a|s),

g being the gradient of the penalty with respect to Q(s, .), averaged over the
behavior policy beta: mu for Eq. 1, mu - beta for Eq. 2, softmax(Q) - beta for
CQL(H). The gradient is TensorFlow's, of `losses.conservative`, so that what is
solved here is what trains the agents.
"""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cql_atari.losses import conservative
from cql_atari.tabular import mdp as mdp_lib

# By the agents' names: the function of `losses.conservative`, and what it takes
# beside Q: the data's actions, or a distribution, mu or the prior.
PENALTIES = {
  'eq1': ('eq1_penalty', ('distribution',)),
  'mu': ('cql_mu_penalty', ('actions', 'distribution')),
  'H': ('cql_h_penalty', ('actions',)),
  'rho': ('cql_rho_penalty', ('actions', 'distribution')),
}
_NEWTON_STEPS = 50
_HALVINGS = 20
_TOLERANCE = 1e-12  # Of the residual, relative to Q.
_DIFFERENCE = 1e-5


def penalty_gradient(
  penalty: str,
  q_values: np.ndarray,
  behavior: np.ndarray,
  distribution: np.ndarray | None = None,
) -> np.ndarray:
  """The gradient of a penalty, averaged over the behavior policy.

  Args:
    penalty: one of PENALTIES.
    q_values: (..., S, A).
    behavior: (..., S, A) beta(a|s).
    distribution: (..., S, A) mu of 'eq1' and 'mu', the prior of 'rho'.

  Returns:
    (..., S, A).
  """
  name, takes = PENALTIES[penalty]
  if distribution is None:
    if 'distribution' in takes:
      raise ValueError(f'{penalty} needs a distribution: mu, or the prior.')
    distribution = behavior
  flat = (
    np.broadcast_to(array, q_values.shape).reshape(-1, q_values.shape[-1])
    for array in (q_values, behavior, distribution)
  )
  gradient = _gradient_fn(getattr(conservative, name), takes)(*flat)
  return gradient.numpy().reshape(q_values.shape)


@functools.lru_cache
def _gradient_fn(
  penalty: Callable[..., tf.Tensor], takes: tuple[str, ...]
) -> Callable[..., tf.Tensor]:
  """A penalty's gradient as a graph: of Q, beta, the distribution, (B, A)."""

  @tf.function(input_signature=[tf.TensorSpec((None, None), tf.float64)] * 3)
  def gradient(q_values, behavior, distribution):
    states, actions = tf.unstack(tf.shape(q_values))
    inputs = {
      'actions': tf.tile(tf.range(actions), [states]),
      'distribution': tf.repeat(distribution, actions, axis=0),
    }
    with tf.GradientTape() as tape:
      tape.watch(q_values)
      rows = tf.repeat(q_values, actions, axis=0)  # One for every action.
      values = penalty(rows, *(inputs[name] for name in takes))
      total = tf.reduce_sum(tf.reshape(behavior, [-1]) * values)
    return tape.gradient(total, q_values)

  return gradient


def update(
  targets: np.ndarray,
  penalty: str,
  alpha: np.ndarray | float,
  behavior: np.ndarray,
  distribution: np.ndarray | None = None,
) -> np.ndarray:
  """One iteration: the minimum of alpha penalty + (Q - targets)^2 / 2.

  Args:
    targets: (..., S, A) B^pi Q^k.
    penalty: one of PENALTIES.
    alpha: weight of the penalty, (...) or one for all.
    behavior: (..., S, A) beta(a|s), nowhere zero.
    distribution: (..., S, A) mu of 'eq1' and 'mu', the prior of 'rho'.

  Returns:
    (..., S, A), NaN for an MDP where Newton's method finds no minimum.
  """
  nowhere = np.zeros((*targets.shape, targets.shape[-2]))
  alone = mdp_lib.MDP(nowhere, targets, nowhere[..., 0, 0, :], gamma=0.0)
  return fixed_point(alone, behavior, penalty, alpha, behavior, distribution)


def linear_update(
  targets: np.ndarray,
  features: np.ndarray,
  penalty: str,
  alpha: np.ndarray | float,
  behavior: np.ndarray,
  states: np.ndarray,
  distribution: np.ndarray,
) -> np.ndarray:
  """One iteration of Eq. 1 or 2 with Q linear in features (appendix D.1).

  Args:
    targets: (..., S, A) B^pi Q^k.
    features: (..., S, A, D) of every pair.
    penalty: 'eq1' or 'mu', whose gradient is the same for every Q.
    alpha: weight of the penalty, (...) or one for all.
    behavior: (..., S, A) beta(a|s).
    states: (..., S) the data's distribution of states d(s).
    distribution: (..., S, A) mu.

  Returns:
    (..., S, A): features times the weights of the least loss.
  """
  pairs = states[..., None] * behavior
  gradient = penalty_gradient(penalty, targets, behavior, distribution)
  wanted = pairs * targets
  wanted = wanted - np.asarray(alpha)[..., None, None] * (
    states[..., None] * gradient
  )
  gram = np.einsum('...sad,...sa,...sae->...de', features, pairs, features)
  right = np.einsum('...sad,...sa->...d', features, wanted)
  weights = np.linalg.solve(gram, right[..., None])[..., 0]
  return np.einsum('...sad,...d->...sa', features, weights)


def fixed_point(
  mdp: mdp_lib.MDP,
  policy: np.ndarray,
  penalty: str,
  alpha: np.ndarray | float,
  behavior: np.ndarray,
  distribution: np.ndarray | None = None,
  maximized: np.ndarray | None = None,
) -> np.ndarray:
  """The fixed point of an update: the Q^ that is its own update.

  For 'eq1' and 'mu' it is (I - gamma P^pi)^-1 (r - alpha g / beta), which one
  step of Newton's method reaches. For 'H' and 'rho' the update is a
  gamma-contraction in the maximum norm, like B^pi: the rows of I + alpha dg /
  beta sum to 1 and its off-diagonal entries are not positive, so its inverse is
  a stochastic matrix.

  Args:
    mdp: the MDP backed up in: the empirical one for the paper's B^^pi.
    policy: (..., S, A) pi.
    penalty: one of PENALTIES.
    alpha: weight of the penalty, (...) or one for all.
    behavior: (..., S, A) beta(a|s), nowhere zero: the Bellman error's weights.
    distribution: (..., S, A) mu of 'eq1' and 'mu', the prior of 'rho'.
    maximized: (..., S, A) the actions in the penalty that are pushed up; the
      data's, beta, by default (appendix D.2 tries others).

  Returns:
    (..., S, A), NaN for an MDP where Newton's method finds none.
  """
  q = mdp_lib.action_values(mdp, policy)
  states, actions = q.shape[-2:]
  weight = np.asarray(alpha)[..., None, None] / behavior
  gradient = functools.partial(
    penalty_gradient,
    penalty,
    behavior=behavior if maximized is None else maximized,
    distribution=distribution,
  )

  def residual(q):
    return q - mdp_lib.backup(mdp, policy, q) + weight * gradient(q)

  # The residual's derivative, (..., S, A, S, A), but for the penalty's part.
  following = mdp.gamma * mdp.transitions[..., None]
  linear = np.eye(states * actions).reshape(states, actions, states, actions)
  linear = linear - following * policy[..., None, None, :, :]

  def newton_step(q, error):
    # A state's penalty depends on the Q-values of that state alone.
    of_penalty = np.einsum(
      '...sa,...sab,st->...satb', weight, _slopes(gradient, q), np.eye(states)
    )
    flat = (linear + of_penalty).reshape(*q.shape[:-2], states * actions, -1)
    step = np.linalg.solve(flat, error.reshape(*q.shape[:-2], -1, 1))
    return step.reshape(q.shape)

  error = residual(q)
  for _ in range(_NEWTON_STEPS):
    tolerance = _TOLERANCE * (1 + _size(q) + _size(weight))
    done = _size(error) <= tolerance
    if np.all(done):
      break
    q, error, stuck = _line_search(
      residual, q, error, newton_step(q, error), done
    )
    if np.all(stuck | (_size(error) <= tolerance)):
      break
  converged = _size(error) <= 1e3 * tolerance
  return np.where(converged[..., None, None], q, np.nan)


def _size(x: np.ndarray) -> np.ndarray:
  return np.abs(x).max(axis=(-2, -1))


def _slopes(gradient, q: np.ndarray) -> np.ndarray:
  """dg(s, a) / dQ(s, b), (..., S, A, A), by central differences.

  TensorFlow's second derivative won't do: 'rho' holds mu fixed in its gradient,
  though mu moves with Q.
  """
  shifts = _DIFFERENCE * np.eye(q.shape[-1])
  shifts = np.expand_dims([shifts, -shifts], tuple(range(2, 1 + q.ndim)))
  ahead, behind = gradient(q + shifts)  # In one call, (2, A, ..., S, A).
  return np.moveaxis(ahead - behind, 0, -1) / (2 * _DIFFERENCE)


def _line_search(residual, q, error, step, done):
  """Goes a step, halved wherever the residual would not shrink.

  Returns:
    Q, its residual, and (...) where it does not shrink however short the step.
  """
  length = np.ones(q.shape[:-2])
  for _ in range(_HALVINGS):
    following = q - length[..., None, None] * step
    following_error = residual(following)
    enough = (1 - 1e-4 * length) * _size(error)
    stuck = (_size(following_error) > enough) & ~done
    if not stuck.any():
      break
    length = np.where(stuck, length / 2, length)
  return following, following_error, stuck
