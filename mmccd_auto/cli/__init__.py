"""The commands. Each module parses its options, calls one function of mmccd_auto.workflows.train and prints."""
