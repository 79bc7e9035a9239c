"""Masks and heat maps back to files on the grid of the CT they came from."""
