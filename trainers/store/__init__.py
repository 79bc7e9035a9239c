"""Prepared studies in one chunked, compressed Zarr v3 hierarchy: small boxes can be read without the rest"""
