"""Simulated heads from label maps: anatomies of many people, MR physics, and scanners of many kinds."""
