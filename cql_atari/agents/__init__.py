"""Offline agents, one file each."""
