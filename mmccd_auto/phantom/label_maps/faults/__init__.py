"""What is wrong with scans and with the extraction of the brain; each a function of a volume, a generator and a strength."""
