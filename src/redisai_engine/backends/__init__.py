"""
The frameworks that run models, one file each, behind the interface in `base.py`.

`registry.py` finds them. Importing this package imports no framework; a backend imports its framework on first use.
"""
