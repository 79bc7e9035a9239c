"""Reports: sentences, findings, labels."""
