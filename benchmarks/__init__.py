"""Measurements that a reader can repeat; nothing in the product imports them."""
