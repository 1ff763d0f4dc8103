"""The fixtures of pacs_world."""

from pacs_world import model, orthanc, orthanc_process, orthanc_program

__all__ = ["model", "orthanc", "orthanc_process", "orthanc_program"]
