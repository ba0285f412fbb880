"""Write the table of parameters in README.md anew, from the configuration tree.

    .venv/bin/python tools/parameter_table.py
"""

from pathlib import Path

from egopose_ros.config import Config, Option, options

README = Path(__file__).resolve().parent.parent / "README.md"
START, END = "<!-- parameters: tools/parameter_table.py -->\n", "<!-- end of parameters -->\n"


def table() -> str:
    """Return the table in Markdown, a line for each leaf."""
    lines = ["| parameter | default | what it does | live |", "|---|---|---|---|"]
    for item in options(Config):
        live = "yes" if item.live else ""
        lines.append(f"| `{item.name}` | {_value(item.default)} | {item.description}{_limits(item)} | {live} |")
    return "\n".join(lines) + "\n"


def _value(default: object) -> str:
    if isinstance(default, tuple):
        return f"`[{', '.join(default)}]`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if default != "" else ""


def _limits(item: Option) -> str:
    if item.choices:
        return f" One of {', '.join(f'`{choice}`' for choice in item.named_choices)}."
    bounds = [f"{bound:g}" for bound in (item.minimum, item.maximum) if bound is not None]
    return f" [{'..'.join(bounds)}{' ' * bool(bounds and item.unit)}{item.unit}]" if bounds or item.unit else ""


def replaced(text: str) -> str:
    """Return the README's text with the table of now."""
    before, rest = text.split(START)
    return before + START + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(replaced(README.read_text()))
