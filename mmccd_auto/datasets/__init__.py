"""Raw datasets on disk: what they hold, how they are named, whose they are, what is wrong with them."""
