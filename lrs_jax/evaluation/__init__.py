"""What a smoothed model is worth, and which noise to take (host)."""
