"""Values of types that JSON lacks: as plain JSON with marks beside it, and back.

A value is written as two things: plain JSON, in the form a peer would store or could read, and a *mark*,
which tells what JSON cannot: None where the value is plain JSON through and through, else the name of a type,
or a list of that name and what it needs. docs/record-format.md is the reference of the marks.
"""
