"""Reading and writing of volumes; the work is done in :mod:`mmccd_auto.imaging`."""

from mmccd_auto.imaging.io import read_geometry, read_volume, write_volume
from mmccd_auto.imaging.volume import Geometry, Triple, Volume, image_from_array

__all__ = ["Geometry", "Triple", "Volume", "image_from_array", "read_geometry", "read_volume", "write_volume"]
