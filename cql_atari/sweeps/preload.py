"""Imported once, before the runs of a sweep are forked."""

from cql_atari.core import settings

settings.import_all()
