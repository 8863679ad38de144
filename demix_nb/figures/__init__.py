"""What is quoted: five marks, one short function per figure, and the rows that say which tables each is drawn from.

Nothing is imported here: the panels take colours alone and do not wait for seaborn.
"""
