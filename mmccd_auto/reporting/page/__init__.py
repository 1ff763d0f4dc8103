"""The page that people open: report.html with its work list and an interactive viewer, and all that goes into it.

A case's part of the page is written with its maps (:mod:`.part`), so that a run that is continued still gives a whole page;
the page is put together from these parts at the end (:mod:`.assemble`). Nothing in a page asks for anything from outside.
"""
