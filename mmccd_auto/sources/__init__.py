"""What a path holds: the cases, people and modalities of files and exports, for import and prediction alike."""
