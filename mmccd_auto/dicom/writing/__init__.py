"""Writing of DICOM objects: under whom they are filed, and what their values mean."""
