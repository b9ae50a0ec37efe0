"""Fitted Q evaluation (Le et al., 2019) of a continuous policy.

With a penalty it is the paper's conservative evaluation (section 3.1).
"""

import functools
from typing import Literal

import tensorflow as tf

from cql_atari.continuous import networks
from cql_atari.continuous.agents.base import ContinuousAgent, Loss
from cql_atari.continuous.agents.sac_agent import SACAgent
from cql_atari.continuous.datasets import Dataset
from cql_atari.continuous.sampling import Noise, Transition
from cql_atari.losses import conservative

# Rewards are carried back by a tenth of what SAC's slow target takes.
_TARGET_RATE = 0.05
_HIDDEN_UNITS = (256, 256, 256)  # Beside a policy of another kind.
_PENALTY_SAMPLES = 10  # Of the policy, in every state.


class ContinuousFQEAgent(SACAgent):
  """Learns Q^pi of another agent's policy, from the data alone.

  It is a single SAC critic, of the policy's size, for a fixed policy. BEAR's
  choice of the best of several actions is not evaluated. With a penalty, the
  loss is that of Eq. 1 or 2 with mu = pi.
  """

  MEASURED = ()

  def __init__(
    self,
    evaluated: ContinuousAgent,
    data: Dataset,
    seed: int = 0,
    penalty: Literal['eq1', 'mu'] | None = None,
    alpha: float = 0.0,
  ):
    """Builds the network, by the settings of the run that gin has.

    Args:
      evaluated: whose policy it is.
      data: what to learn from.
      seed: seeds the weights, the batches and the noise.
      penalty: 'eq1' (Eq. 1) or 'mu' (Eq. 2) for conservative values.
      alpha: its weight.
    """
    self._evaluated, self._penalty, self._alpha = evaluated, penalty, alpha
    super().__init__(
      data,
      gamma=evaluated.gamma,
      critic=functools.partial(
        networks.Critic,
        hidden_units=getattr(evaluated.policy, 'hidden_units', _HIDDEN_UNITS),
        num_critics=1,
      ),
      temperature=0.0,
      entropy_backup=False,
      target_rate=_TARGET_RATE,
      critic_steps=1,
      policy_steps=1,
      seed=seed,
    )

  def _build(self) -> None:
    self.policy = self._evaluated.policy
    self._build_critic()

  def _declared_scalars(self) -> tuple[str, ...]:
    return 'td_loss', 'q_data', 'gradient_norm'

  def critic_loss(self, batch: Transition, noise: Noise) -> Loss:
    """SAC's loss, plus alpha times the penalty if there is one."""
    q_data = self.critic(batch.state, batch.action)
    loss, scalars = self.td_loss(q_data, batch, noise)
    if self._penalty is not None:
      actions, _ = self.policy.sample(
        batch.state, self._normal(noise, _PENALTY_SAMPLES)
      )
      q_samples = self.critic(batch.state, actions)
      penalty = conservative.sampled_eq1_penalty(q_samples)
      if self._penalty == 'mu':
        penalty -= q_data
      loss += self._alpha * tf.reduce_sum(tf.reduce_mean(penalty, axis=1))
    return loss, scalars

  def after_step(self, scalars: dict[str, tf.Tensor]) -> None:
    """Moves the target networks."""
    self._move_targets()

  def policy_loss(self, batch: Transition, noise: Noise) -> Loss:
    """Not implemented: the evaluated policy is fixed."""
    raise NotImplementedError
