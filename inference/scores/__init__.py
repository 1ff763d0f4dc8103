"""From errors to scores and masks: calibration, false alarms, lesions and candidates."""
