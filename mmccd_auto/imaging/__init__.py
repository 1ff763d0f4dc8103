"""A volume, where it lies, and what its intensities mean."""
