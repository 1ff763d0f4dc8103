"""Lesions one by one: how large, where in the patient, and in which part of the brain."""
