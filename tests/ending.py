"""A process that ends with a status, for tests of what starts many."""

import os
import time


def with_a_mistake(*_) -> None:
  """As a command does whose settings are wrong."""
  time.sleep(0.2)
  os._exit(2)
