"""Adapters of payment providers behind one port."""
