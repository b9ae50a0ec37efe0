"""Gradient steps on several devices of one machine."""

import tensorflow as tf

from cql_atari.core.constraints import Count
from cql_atari.core.errors import UserError
from cql_atari.core.settings import configurable


@configurable
def mirrored_strategy(
  num_devices: Count | None = None,
) -> tf.distribute.Strategy:
  """Every device holds the networks and takes its part of each batch.

  Args:
    num_devices: how many GPUs; all of them by default. Where there are none,
      as many of the machine's logical CPU devices.

  Raises:
    UserError: the machine has fewer.
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
