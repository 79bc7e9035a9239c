"""Organs: who segments them, what they measure, how they are exported."""
