"""From a raw case to what the network sees: normalisation, resampling in plane, slices on disk, and the way back."""
