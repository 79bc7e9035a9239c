"""Figures of this machine. Each module prints one JSON document; `run_all` collects them."""
