"""Files made from reports before training: organ texts and states, triplets, distilled statements."""
