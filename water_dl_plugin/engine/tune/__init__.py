"""A search over the settings of training.

`space` says what may vary, `study` keeps the trials in a SQLite file, `worker` is the program that trains one trial after another, `pool`
starts such programs, `search` brings them together; `plots` and `report` show what was found.

Why programs, and not threads: torch's seed, its number of threads and its memory are one per process; a training that needs too much
memory, or takes the driver down with it, must not take QGIS along; and Cancel can end a program at once. Why they do not share the
study: the search alone writes the file, so that nothing has to wait for a lock, a trial without a living search is known to be broken
off, and the programs need nothing but what training needs.
"""
