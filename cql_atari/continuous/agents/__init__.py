"""Agents for continuous actions, one file each."""
