"""One file for each verb or family of verbs. To add one: a file with `verbs` in it, and its name in
the list in `cli/__init__.py`.
"""
