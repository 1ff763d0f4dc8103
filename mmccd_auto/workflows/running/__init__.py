"""What mmccd_run needs between its stages: their record, the time, the models that predict by default."""
