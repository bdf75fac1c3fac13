"""Perseus turns a pile of computers into one shell.

``import perseus; cluster = perseus.connect()`` is where programs begin. The
import is light: nothing heavy is loaded before it is used.
"""

__version__ = "0.1.0"
