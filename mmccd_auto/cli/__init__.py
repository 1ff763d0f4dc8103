"""The commands. Each module parses its options, calls one function of mmccd_auto.pipeline and prints."""
