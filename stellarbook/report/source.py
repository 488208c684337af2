"""The live source of a class or function, so that a page cannot drift from the module."""

import ast
import inspect
import textwrap
from pathlib import Path

from IPython.display import Markdown, display

ROOT = Path(__file__).parents[2]


def show(*objects, docstring=False):
    """Display the source of functions, classes or methods as they are now.

    Parameters
    ----------
    *objects : callable
    docstring : bool
        Keep docstrings; left out by default, for the page around says what they say, and the API
        reference has them whole.

    Raises
    ------
    TypeError
        One of them has no Python source.
    """
    for thing in objects:
        display(Markdown(f"`{where(thing)}`\n\n```python\n{text(thing, docstring)}\n```"))


def text(thing, docstring=False):
    """Source of an object, dedented, without its docstrings unless they are asked for."""
    source = textwrap.dedent(inspect.getsource(thing)).rstrip()
    if docstring:
        return source
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            first, last = node.body[0].lineno - 1, node.body[0].end_lineno
            # A blank line after the docstring goes with it.
            if last < len(lines) and not lines[last].strip():
                last += 1
            lines[first:last] = [None] * (last - first)
    return "\n".join(line for line in lines if line is not None)


def where(thing):
    """File and line of an object, from the root of the repository."""
    file = Path(inspect.getsourcefile(thing)).resolve()
    line = inspect.getsourcelines(thing)[1]
    return f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file.name}:{line}"
