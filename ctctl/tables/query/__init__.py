"""The filter language of every command that selects entries (docs/reference/cli.md): one parser, three ways to run it.

``parse.parse_filter`` and ``flags.FilterFlags.filter`` make a ``filter.Filter``; bound to a table
(``context.TableContext``) it becomes a ``predicate.Predicate`` over slots, which runs on numpy columns, on one
entry, or, as a jump program, in the kernel. Importing a filter that wants everything imports none of it.
"""
