"""From a raw dataset to a plan: fingerprint, planner, cross-validation splits."""
