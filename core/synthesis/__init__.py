"""Made-up pathology in real anatomy, with its exact truth."""
