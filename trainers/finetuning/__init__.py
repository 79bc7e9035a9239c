"""Fine-tuning of any recipe's encoder to classification and segmentation, with metrics and their intervals"""
