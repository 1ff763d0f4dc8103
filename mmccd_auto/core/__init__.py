"""What every stage stands on and that knows nothing of brains."""
