"""A user's mistake: one plain sentence, no traceback."""


class UserError(Exception):
  """A mistake that the user can mend; its text is the sentence they see.

  Attributes:
    status: the exit status of a command that ends with it.
  """

  status = 2


class OtherSettingsError(UserError):
  """A job was begun with settings that must not change."""


class DivergedError(UserError):
  """A loss is no longer finite."""


class BusyError(UserError):
  """Another process holds what is needed: trying again later helps."""

  status = 75  # EX_TEMPFAIL of sysexits.h.
