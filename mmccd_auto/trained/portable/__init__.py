"""A trained fold in a form that travels: weights, card, and texts that are safe to show."""
