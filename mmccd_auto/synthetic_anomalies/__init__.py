"""Synthetic anomalies in healthy slices, by which models and settings are chosen where nobody drew lesions."""
