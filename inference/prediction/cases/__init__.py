"""The cases of a prediction over a folder: which there are, and those that are predicted elsewhere."""
