"""
The fronts that clients talk to, one folder per protocol. A front turns bytes into requests and replies into bytes.
"""
