"""Where the worker is started, and how.

What `make` calls runs here before there is anything but the system's own Python, 3.8 too, for a host whose
Docker has it all needs no newer one: here, container, native, machine and order import nothing but what comes
with it. What `worker launch` calls starts workers elsewhere: slurm/, azureml/, kubernetes/, which have one
contract (launcher)."""
