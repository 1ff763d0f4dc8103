"""From slices to anomaly maps in the scan's own geometry: settings, engine, predictor, inputs, outputs and calibration."""
