"""Compatibility methods: each file builds the losses of one family; `train.compatibility.METHODS` lists them."""
