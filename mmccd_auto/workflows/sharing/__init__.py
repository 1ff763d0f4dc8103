"""What exporting and installing a model share: what it is, whether it is whole, whom it must not name."""
