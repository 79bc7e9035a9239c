"""Models fine-tuned to one task, as engines: classifiers of whole CTs, segmenters"""
