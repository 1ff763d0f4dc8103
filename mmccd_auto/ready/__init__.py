"""Models that come with the package, trained on simulated heads only, and how they were made."""
