"""Answers to questions, each with its evidence."""
