"""Devices that speak DICOM's own protocol (DIMSE): a listener (C-STORE, C-ECHO) and a sender (C-STORE)."""
