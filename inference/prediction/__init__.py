"""From scans to files: predictors, the files of a case, the run over a folder."""
