"""TensorBoard itself, as a WSGI application that reads from the store.

It is made of parts of TensorBoard that it does not call public, so its version is pinned, and a test compares what is
used of it. Nothing of it is imported before `make_application`: that takes half a second and some 40 MB.
"""

from tallyboard_server.tensorboard.application import WsgiApplication, make_application
from tallyboard_server.tensorboard.reach import ASKING

__all__ = ["ASKING", "WsgiApplication", "make_application"]
