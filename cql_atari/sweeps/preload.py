"""Imported once, before the runs of a sweep are forked."""

from cql_atari.core import quiet, settings

with quiet.quiet():
  quiet.import_tensorflow()
  settings.import_all()
