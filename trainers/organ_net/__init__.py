"""Training of the embedded organ segmentation: one labelled patient, bent and re-scanned without end."""
