"""Trained patch classifiers. The only code that uses Keras, all of it through :mod:`.backend`."""
