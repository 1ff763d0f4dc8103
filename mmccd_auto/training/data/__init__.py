"""What a training sees: the fold's cases, their slices, and how they are loaded and altered."""
