"""Pre-training, fine-tuning, benchmark: `python -m trainers.NAME --help`."""
