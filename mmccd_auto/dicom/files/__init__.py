"""DICOM files one by one: found, opened safely, and what their headers say."""
