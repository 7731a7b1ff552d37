"""Devices by their heartbeats: who beats how, who is quiet, which site is out."""
