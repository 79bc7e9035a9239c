"""Judging heat maps against masks: cases of several kinds, figures with intervals, pictures of the worst."""
