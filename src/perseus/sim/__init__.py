"""The simulator: runs the processes of ``perseus.algo`` under faults, from a seed.

Everything that happens in a run follows from its seed and its options: time is
virtual, and the network, disks, clocks and crashes are drawn from the seed's
source of chance. ``world`` is one run, ``runner`` many of them, ``shrink`` makes
a failing one small, ``explore`` tries all orders of a small one, ``diagram``
draws one.
"""
