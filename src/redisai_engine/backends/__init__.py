"""
The frameworks that run models: one file each, all behind the interface in `base.py`.

`registry.py` finds them. Importing this package imports no framework: a backend's module does when it is first needed.
"""
