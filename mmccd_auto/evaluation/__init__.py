"""Maps against labels."""
