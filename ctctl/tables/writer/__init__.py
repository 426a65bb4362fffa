"""The one way to change a table: everything that deletes or restores entries goes through here.

``targets`` decides whose a table is, by the object, and opens it for writing; ``clock`` says what the
datapath's clock says; ``journal`` writes what is about to go, before it goes; ``remover`` deletes, by a
program in the kernel that has just compared; ``restore`` brings back, and never overwrites.
"""
