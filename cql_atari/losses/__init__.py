"""Losses as pure functions of tensors, usable without any agent."""
