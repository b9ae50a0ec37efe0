"""Gradient steps on several devices of one machine."""

import tensorflow as tf

from cql_atari.core.constraints import PositiveInt, configurable
from cql_atari.core.errors import UserError


@configurable
def mirrored_strategy(
  num_devices: PositiveInt | None = None,
) -> tf.distribute.Strategy:
  """A strategy for synchronous data parallelism on one machine.

  Every device holds a copy of the networks and computes its part of each batch.

  Args:
    num_devices: number of GPUs, or of logical CPU devices on a machine without
      GPUs; all by default.

  Returns:
    A MirroredStrategy.

  Raises:
    UserError: the machine has fewer devices.
  """
  kind = 'GPU' if tf.config.list_logical_devices('GPU') else 'CPU'
  devices = tf.config.list_logical_devices(kind)
  if num_devices is not None and not 1 <= num_devices <= len(devices):
    raise UserError(
      f'mirrored_strategy.num_devices is {num_devices}, but there are '
      f'{len(devices)} {kind} devices: give 1 to {len(devices)}.'
    )
  return tf.distribute.MirroredStrategy(
    [device.name for device in devices[:num_devices]]
  )
