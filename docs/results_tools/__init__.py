"""What docs/make_results.py is made of: scores, sections of the page, figures."""
