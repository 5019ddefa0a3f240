"""Stages: what a run does."""
