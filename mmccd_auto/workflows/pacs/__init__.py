"""A clinic's own systems: studies are found, predicted, and filed with the patient's study."""
