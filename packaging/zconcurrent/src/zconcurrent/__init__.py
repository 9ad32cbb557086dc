"""The older name of loamy: :class:`zconcurrent.zsession.zSession` sends a list of HTTP requests and gives back what came of each.

Import from :mod:`zconcurrent.zsession`; everything there runs on loamy's engine.
"""
