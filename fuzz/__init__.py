"""
Fuzzing: generated and mutated inputs for everything that reads what a client, Redis or a model's author wrote.

`python -m fuzz` runs the campaign. An input is a fault if it makes its target crash, hang, leak or take memory without
bound. `corpus/` has the inputs that once did, and seeds.
"""
