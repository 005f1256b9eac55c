"""Where the worker is started, and how: here, before there is anything but the system's own Python.

So these files import nothing but what comes with Python, and run on Python 3.8 too: a host whose Docker has
it all needs no newer one."""
