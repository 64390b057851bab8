"""Measurements that can be believed: interleaved, warmed, checked before they are timed, with their spread."""
