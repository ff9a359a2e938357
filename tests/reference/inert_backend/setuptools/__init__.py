"""Stands in for setuptools while an sdist is fetched: see build_meta."""
