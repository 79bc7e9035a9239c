"""What a number in a results table is: formulas with their sources, released defects behind named switches."""
