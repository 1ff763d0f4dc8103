"""Steps, strips, scores and models, chosen without labels."""
